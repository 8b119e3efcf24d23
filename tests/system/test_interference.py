"""Things that happen at the same moment as a rollover."""

import os
import signal

import pytest

from harness import apps, http, processes
from harness.load import KINDS, Load, assert_nothing_lost, describe

BROKEN_BY_KILL = {"reset", "truncated", "closed_early"}


def slow_starter(**more):
    """Boots at once at first; --env DEMO_BOOT_MS makes a later generation slow."""
    return apps.demo(backend={"restart_delay": {"min": "100ms", "max": "1s"}}, **more)


def begin_slow_rollover(relayd, mode="phased", number=2):
    rollover = relayd.begin_rollover("--mode", mode, "--env", "DEMO_BOOT_MS=1500")
    relayd.wait_event("generation_starting", generation=number)
    return rollover


def ended(rollover, expect=0):
    output, errors = rollover.communicate(timeout=60)
    assert rollover.returncode == expect, output + errors


def test_a_second_rollover_is_refused(relayd):
    relayd.start({"web": slow_starter()})
    first = begin_slow_rollover(relayd)
    refused = relayd.ctl("rollover", expect=4)
    assert "progress" in refused.stdout + refused.stderr
    ended(first)
    assert relayd.service()["generation"] == 2


@pytest.mark.threads
def test_a_storm_of_hups_under_load(relayd):
    relayd.start({"web": slow_starter()}, threads=2)
    with Load(relayd.address, clients=16) as load:
        relayd.wait_for(lambda service: service["accepted"] > 100, "clients are being served")
        for _ in range(100):
            relayd.send(signal.SIGHUP)
        relayd.wait_event("rollover_done", generation=2)
        relayd.wait_for(lambda s: s["phase"] == "serving" and len(s["generations"]) == 1, "the storm is over")
        report = load.finish()
    assert_nothing_lost(report)


def test_hups_during_a_rollover_are_remembered_once(relayd):
    relayd.start({"web": slow_starter()})
    first = begin_slow_rollover(relayd)
    for _ in range(20):
        relayd.send(signal.SIGHUP)
    ended(first)
    relayd.wait_event("rollover_done", generation=3)
    relayd.wait_event("generation_stopped", generation=2)
    service = relayd.service()
    assert (service["generation"], service["phase"], service["rollover"]) == (3, "serving", None)


def test_a_rollover_while_old_generations_drain(relayd):
    """Two generations may drain; when a third would, the oldest is cut."""
    relayd.start({"web": slow_starter(protocol="tcp", rollover={"max_old_generations": 2, "graceful_timeout": "60s"})})
    links = []
    for number in (1, 2, 3):
        links.append(http.connect(relayd.address))
        http.ask(links[-1], close=False)
        assert http.answer(links[-1])[1]["x-generation"] == str(number)
        relayd.rollover("phased")
    with pytest.raises(ConnectionError):
        http.ask(links[0], close=False)
        http.answer(links[0])
    for link, number in zip(links[1:], ("2", "3")):
        http.ask(link, close=False)
        assert http.answer(link)[1]["x-generation"] == number
    for link in links:
        link.close()


@pytest.mark.parametrize("phase", ["serving", "new one starting", "draining", "holding", "paused", "first start"])
def test_term_in_each_phase(relayd, phase):
    service = slow_starter()
    if phase == "first start":
        service["backend"]["env"] = {"DEMO_BOOT_MS": "20000"}
        relayd.start({"web": service}, wait=False)
        processes.wait_until(lambda: relayd.socket and os.path.exists(relayd.socket), "the control socket is there")
        relayd.wait_event("generation_starting", generation=1)
        relayd.stop()
        return
    relayd.start({"web": service})
    rollover = None
    with http.connect(relayd.address) as link:
        http.ask(link, "/slow?ms=1500")
        relayd.wait_for(lambda s: s["active"] == 1 and relayd.generation(1)["connections"] == 1, "a request is under way")
        if phase == "new one starting":
            rollover = begin_slow_rollover(relayd)
        elif phase == "draining":
            relayd.rollover("phased")
            relayd.wait_event("draining", generation=1)
        elif phase == "holding":
            rollover = relayd.begin_rollover("--mode", "hot")
            relayd.wait_for(lambda s: s["holding"], "clients are held")
        elif phase == "paused":
            rollover = relayd.begin("pause")
            relayd.wait_for(lambda s: s["holding"], "clients are held")
        relayd.send(signal.SIGTERM)
        assert http.answer(link)[0] == 200, "a request under way is finished"
    assert relayd.wait_end() == 0
    relayd.assert_nothing_left()
    if rollover is not None:
        rollover.communicate(timeout=20)


def test_new_clients_are_not_refused_until_a_graceful_stop_has_closed_the_listener(relayd):
    """Clients that came before TERM, and wait in the kernel's queue or are held, are served."""
    relayd.start({"web": slow_starter()}, threads=1)
    rollover = begin_slow_rollover(relayd, "hot")
    held = [http.connect(relayd.address) for _ in range(5)]
    for link in held:
        http.ask(link)
    relayd.wait_for(lambda s: s["held"] == 5, "they are held")
    relayd.send(signal.SIGTERM)
    for link in held:
        assert http.answer(link)[0] == 200
        link.close()
    assert relayd.wait_end() == 0
    rollover.communicate(timeout=20)


def test_relayctl_killed_in_the_middle_changes_nothing(relayd):
    relayd.start({"web": slow_starter()})
    with Load(relayd.address, clients=8, options=["--think", "2"]) as load:
        rollover = begin_slow_rollover(relayd)
        rollover.kill()
        rollover.communicate(timeout=10)
        relayd.wait_event("rollover_done", generation=2)
        report = load.finish()
    assert_nothing_lost(report)


@pytest.mark.parametrize("mode", ["phased", "hot"])
def test_the_starting_generation_is_killed(relayd, mode):
    relayd.start({"web": slow_starter()})
    with Load(relayd.address, clients=8, options=["--think", "2"]) as load:
        relayd.wait_for(lambda service: service["accepted"] > 50, "clients are being served")
        rollover = begin_slow_rollover(relayd, mode)
        (pid,) = processes.wait_until(lambda: relayd.instance_pids(2), "it has a process")
        processes.kill(pid)
        ended(rollover, expect=1)
        assert "SIGKILL" in relayd.service()["last_rollover"]["reason"]
        relayd.wait_for(lambda s: s["phase"] == "serving", "somebody serves")
        assert relayd.rollover()["result"] == "done"
        report = load.finish()
    assert_nothing_lost(report)


@pytest.mark.parametrize("mode", ["phased", "hot"])
def test_the_old_generation_is_killed_while_it_drains(relayd, mode):
    relayd.start({"web": slow_starter(protocol="tcp", rollover={"graceful_timeout": "300s"})})
    with http.connect(relayd.address) as link:
        http.ask(link, "/slow?ms=250000")
        relayd.wait_for(lambda s: relayd.generation(1)["connections"] == 1, "a request is under way")
        rollover = relayd.begin_rollover("--mode", mode)
        relayd.wait_event("draining", generation=1)
        (pid,) = relayd.instance_pids(1)
        processes.kill(pid)
        with pytest.raises(ConnectionError):
            http.answer(link)
        ended(rollover)  # though this client never closes: nobody is left to talk to it
    relayd.wait_event("generation_stopped", generation=1)
    assert http.get_json(relayd.address)["generation"] == 2


def test_the_old_generation_is_killed_while_the_new_one_starts(relayd):
    """Phased: the rollover goes on; clients are held until one of the two is ready."""
    relayd.start({"web": slow_starter(protocol="tcp")})
    with Load(relayd.address, clients=8, options=["--think", "2"]) as load:
        relayd.wait_for(lambda service: service["accepted"] > 50, "clients are being served")
        rollover = begin_slow_rollover(relayd)
        (pid,) = relayd.instance_pids(1)
        processes.kill(pid)
        ended(rollover)
        before = relayd.service()["accepted"]
        relayd.wait_for(lambda service: service["accepted"] > before + 50, "the new generation serves")
        report = load.finish()
    assert {kind for kind in KINDS if report["losses"][kind]} <= BROKEN_BY_KILL, describe(report)
    assert report["lost"] <= 8, describe(report)


def test_an_app_that_ignores_term_is_killed_after_kill_timeout(relayd):
    service = apps.demo(backend={"kill_timeout": "1s", "env": {"DEMO_IGNORE_TERM": "true"}})
    relayd.start({"web": service})
    (pid,) = relayd.instance_pids()
    relayd.rollover(env={"DEMO_IGNORE_TERM": "false"}, until="drained")
    relayd.wait_event("generation_stopped", generation=1)
    assert not processes.alive(pid)
    killed = relayd.wait_event("instance_killed", generation=1)
    drained = relayd.wait_event("drained", generation=1)
    assert killed["unix_ms"] - drained["unix_ms"] >= 990
