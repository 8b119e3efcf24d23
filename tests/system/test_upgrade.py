"""relayd replaces its own executable: the same process, the same children, and no connection notices.

`relayctl upgrade` again and again, under a crowd of living connections of every kind (harness/living.py); what was lost is
counted by kind, and the only count that passes is 0.
"""

import itertools
import os
import signal

from harness import apps, living, places, processes, upgrades
from harness.load import Load, assert_nothing_lost

CONNECTIONS, UPGRADES = (2000, 20) if places.SOAK else (200, 6)
PAIRS = 9000 if places.SOAK else 500
TIMES = 100 if places.SOAK else 20
BOOTING = ("--env", "LIVING_BOOT_MS=2000")
MOST_GROWTH_KIB = (32 if os.environ.get("RELAYD_SANITIZE", "none") != "none" else 8) << 10  # a sanitizer keeps what was freed


class Story:
    """Upgrades, each in other circumstances. Every scene returns what upgrades.upgrade() does."""

    def __init__(self, relayd, crowd, services):
        self.relayd, self.crowd, self.services = relayd, crowd, services
        other = upgrades.another_binary(relayd)
        self.binaries = itertools.cycle([other, places.program("relayd")])

    def upgrade(self, crowd):
        return upgrades.upgrade(self.relayd, crowd, next(self.binaries))

    def requests_in_halves(self):
        self.crowd.first_halves()
        told = self.upgrade(self.crowd)
        self.crowd.second_halves()
        return told

    def after_rollovers(self):
        """While old generations drain: what is left on them stays there."""
        self.relayd.rollover("phased", service="web", until="drained")
        self.relayd.rollover("hot", service="web", until="drained")
        for name in ("tunnels", "raw"):
            self.relayd.rollover("phased", service=name)
        self.crowd.round()
        told = self.upgrade(self.crowd)
        for name in ("tunnels", "raw"):
            assert any(g["state"] == "draining" and g["connections"] for g in self.relayd.service(name)["generations"])
        return told

    def clients_held(self):
        """Some by relayd, and more in the kernel's queue."""
        answered = len(self.crowd.answers_of_held())
        self.relayd.ctl("pause", "door")
        self.crowd.hold(40, living.addresses(self.services, "door")["door"])
        self.relayd.wait_for(lambda s: s["held"] > 0, "clients are held", name="door")
        told = self.upgrade(self.crowd)
        assert self.relayd.service("door")["phase"] == "paused"
        self.relayd.ctl("resume", "door")
        assert len(self.crowd.answers_of_held()) == answered + 40
        return told

    def within_a_phased_rollover(self):
        """While the new generation boots: it goes on to serve."""
        return self._within("raw", "--mode", "phased", *BOOTING, reached="generation_starting", crowd=self.crowd)

    def within_a_hot_rollover(self):
        """While the old generation waits for requests of which the second half is yet to come, and everybody else is held."""
        self.crowd.first_halves()
        return self._within("web", "--mode", "hot", reached="draining", then=self.crowd.second_halves)

    def within_a_failing_rollover(self):
        """While the new generation boots, and then ends: relayctl, which has asked the former image, says why."""
        known, number = self.relayd.last_sequence(), self.relayd.service("raw")["generation"]
        rollover = self.relayd.begin_rollover("raw", "--mode", "phased", *BOOTING, "--env", "LIVING_BOOT_FAILS=1")
        self.relayd.wait_event("generation_starting", after=known, service="raw")
        told = self.upgrade_amid_rollover(self.crowd)
        output, errors = rollover.communicate(timeout=120)
        assert rollover.returncode == 1 and "told to fail" in output + errors, (output, errors)
        self.relayd.wait_for(lambda s: s["generation"] == number and s["rollover"] is None, "it has failed", name="raw")
        self.crowd.round()
        return told

    def _within(self, name, *how, reached, crowd=None, then=lambda: None):
        known, number = self.relayd.last_sequence(), self.relayd.service(name)["generation"]
        rollover = self.relayd.begin_rollover(name, *how)
        self.relayd.wait_event(reached, after=known, service=name)
        told = self.upgrade_amid_rollover(crowd)
        then()
        said = rollover.communicate(timeout=120)
        assert rollover.returncode == 0, said
        self.relayd.wait_for(lambda s: s["generation"] == number + 1 and s["rollover"] is None, "it has rolled over", name=name)
        self.crowd.round()
        return told

    def upgrade_amid_rollover(self, crowd):
        """Instances may come and go meanwhile, but those that stay are the same processes."""
        before, number, binary = upgrades.instances(self.relayd), self.relayd.status()["pid"], next(self.binaries)
        with self.crowd.watching() as silence:
            told = self.relayd.upgrade(binary)
            if crowd:
                crowd.round()
        after = upgrades.instances(self.relayd)
        assert {key: after[key] for key in before if key in after} == {key: before[key] for key in before if key in after}
        assert self.relayd.status()["pid"] == told["pid"] == number
        assert upgrades.running_binary(self.relayd) == str(binary)
        return {**told, "silence": silence}


def test_mixed_connections_live_through_upgrades(relayd):
    services = living.services()
    pid_file = relayd.folder / "relayd.pid"
    relayd.start(services, threads=2, pid_file=str(pid_file))
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        crowd.mixed(CONNECTIONS, **living.addresses(services))
        story = Story(relayd, crowd, services)
        scenes = [
            story.requests_in_halves,
            story.after_rollovers,
            story.clients_held,
            story.within_a_phased_rollover,
            story.within_a_hot_rollover,
            story.within_a_failing_rollover,
        ]
        for number, scene in zip(range(1, UPGRADES + 1), itertools.cycle(scenes)):
            told = scene()
            silence = told["silence"]
            print(
                f"  upgrade {number} ({scene.__name__}): {told['connections']} connections, longest silence"
                f" {told['silence_ms']} ms by relayd's clock, {silence['ms']} ms by the clients' ({silence['kind']})"
            )
            assert int(pid_file.read_text()) == relayd.process.pid == relayd.status()["pid"]
        report = crowd.finish()
    print(living.table(report))
    living.assert_nothing_lost(report)
    assert set(report["kinds"]) == {kind for kinds in living.SHARES.values() for kind in kinds} | {"held"}


def test_held_clients_keep_their_order(relayd):
    services = living.services()
    relayd.start(services, threads=1)
    door = living.addresses(services, "door")["door"]
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        relayd.ctl("pause", "door")
        for _ in range(3):
            crowd.hold(15, door)  # 30 are held by relayd, 15 by the kernel
            upgrades.upgrade(relayd)
        relayd.ctl("resume", "door")
        answers = crowd.answers_of_held()
        living.assert_nothing_lost(crowd.finish())
    assert len(answers) == 45 and answers == sorted(answers), answers


def test_idle_pairs(relayd):
    services = {"raw": living.service(protocol="tcp")}
    relayd.start(services, threads=2)
    sources = [f"127.0.0.{number}" for number in range(2, 6)]
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        crowd.open("idle", PAIRS, relayd.address, sources=sources)
        relayd.wait_for(lambda s: s["active"] == PAIRS, "all are connected")
        told = upgrades.upgrade(relayd)
        print(f"  {PAIRS} idle pairs: {told['silence_ms']} ms of silence, as relayd tells it")
        assert told["connections"] == PAIRS, told
        report = crowd.finish()
    living.assert_nothing_lost(report)
    assert report["kinds"]["idle"]["operations"] == report["kinds"]["idle"]["connections"] == PAIRS


def test_five_at_once(relayd):
    services = living.services()
    relayd.start(services, threads=2)
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        crowd.mixed(60, **living.addresses(services))
        before = upgrades.instances(relayd)
        asked = [relayd.begin("upgrade") for _ in range(5)]
        said = [each.communicate(timeout=120) for each in asked]
        assert [each.returncode for each in asked] == [0] * 5, said
        crowd.round()
        known = relayd.last_sequence()
        relayd.send(signal.SIGUSR2)
        relayd.send(signal.SIGUSR2)
        relayd.wait_event("upgraded", after=known)
        crowd.round()
        upgrades.upgrade(relayd, crowd)
        assert upgrades.instances(relayd) == before
        living.assert_nothing_lost(crowd.finish())


def test_usr2_takes_the_executable_that_is_now_at_its_path(relayd):
    """As a package's update leaves it: another file under the same name."""
    services = living.services()
    program = upgrades.another_binary(relayd)
    for service in services.values():
        service["listen"] = [f"127.0.0.1:{places.free_port()}"]
    relayd.write_config(services)
    relayd.launch([str(program), "--config", str(relayd.config_file)])
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        crowd.mixed(40, **living.addresses(services))
        program.unlink()
        upgrades.another_binary(relayd)
        assert upgrades.running_binary(relayd) == f"{program} (deleted)"
        known = relayd.last_sequence()
        relayd.send(signal.SIGUSR2)
        relayd.wait_event("upgraded", after=known)
        assert upgrades.running_binary(relayd) == str(program)
        crowd.round()
        living.assert_nothing_lost(crowd.finish())


def test_while_connections_come_and_go(relayd):
    """So that the threads, each of which tells of another moment, name descriptors that are used again."""
    relayd.start({"web": apps.demo(backend={"instances": 2})}, threads=4)
    with Load(relayd.address, clients=24) as load:
        for number in range(1, TIMES + 1):
            accepted = relayd.service()["accepted"]
            relayd.wait_for(lambda s: s["accepted"] > accepted + 100, "clients come and go")
            told = upgrades.upgrade(relayd)
            assert told["from_version"] == told["to_version"], number
        report = load.finish()
    assert_nothing_lost(report)


def test_many_upgrades_leak_nothing(relayd):
    services = living.services()
    relayd.start(services, threads=2)
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        for kind, name in [("idle", "raw"), ("ping_pong", "raw"), ("websocket", "tunnels")]:
            crowd.open(kind, 20, living.addresses(services, name)[name])
        for _ in range(2):
            upgrades.upgrade(relayd, crowd)
        known, resident = settled(relayd), upgrades.resident_kib(relayd)
        for _ in range(TIMES):
            upgrades.upgrade(relayd, crowd)
        processes.wait_until(lambda: upgrades.descriptors(relayd) == known, f"it has again {known}", 10)
        grown = upgrades.resident_kib(relayd) - resident
        print(f"  {TIMES} upgrades: {sum(known.values())} descriptors before and after, {grown} KiB more resident")
        assert grown < MOST_GROWTH_KIB
        living.assert_nothing_lost(crowd.finish())


def settled(relayd):
    """The descriptors when they are the same twice: what came for a moment has gone."""
    seen = []

    def same():
        seen.append(upgrades.descriptors(relayd))
        return len(seen) > 10 and all(each == seen[-1] for each in seen[-10:])

    processes.wait_until(same, "its descriptors stay as they are", 10)
    return seen[-1]
