"""Everything at any moment: a random sequence of what people, signals and crashes do, under load.

Nobody may be refused, answered wrongly or left waiting, and afterwards relayd serves as if nothing had been. Replay one
with RELAYD_SEED.
"""

import os
import random
import signal

import pytest

from harness import apps, http, places, processes
from harness.load import Load, describe
from harness.relayd import all_ready

SEEDS = [int(os.environ["RELAYD_SEED"])] if "RELAYD_SEED" in os.environ else range(1, 101 if places.SOAK else 3)
STEPS = 40


class Chaos:
    def __init__(self, relayd, seed):
        self.relayd = relayd
        self.random = random.Random(seed)
        self.under_way = []
        self.story = []

    def ask(self, *arguments):
        self.under_way.append(self.relayd.begin(*arguments))

    def rollover(self):
        arguments = ["--mode", self.random.choice(["phased", "hot", "restart"])]
        way = self.random.choice(["no", "no", "no", "exit", "check", "die-after-ready"])
        self.ask("rollover", *arguments, "--env", f"DEMO_FAIL={way}", "--env", f"DEMO_BOOT_MS={self.random.choice([0, 0, 300])}")
        return f"rollover {arguments[1]} fail={way}"

    def kill_somebody(self):
        pids = [i["pid"] for g in self.relayd.service()["generations"] for i in g["instances"] if i["pid"]]
        if pids:
            victim = self.random.choice(pids)
            if processes.alive(victim):
                processes.kill(victim)
        return "kill -9 of an instance"

    def send(self):
        number = self.random.choice([signal.SIGHUP, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGWINCH])
        self.relayd.send(number)
        return number.name

    def control(self):
        verb = self.random.choice([("abort",), ("pause",), ("resume",), ("scale", "1"), ("scale", "3"), ("reload",)])
        self.ask(*verb)
        return " ".join(verb)

    def kill_relayctl(self):
        running = [each for each in self.under_way if each.poll() is None]
        if running:
            self.random.choice(running).kill()
        return "kill -9 of a relayctl"

    def step(self):
        known = len(self.relayd.follow().all())
        act = self.random.choice([self.rollover, self.rollover, self.kill_somebody, self.send, self.control, self.kill_relayctl])
        self.story.append(act())
        # The next step comes with some later event, or soon.
        for _ in range(self.random.randrange(6)):
            self.relayd.follow().wait_for_more(known, 0.2)
            known = len(self.relayd.follow().all())


@pytest.mark.parametrize("seed", SEEDS)
def test_anything_at_any_moment(relayd, seed):
    service = apps.demo(
        protocol=["auto", "tcp"][seed % 2],
        backend={"instances": 2, "restart_delay": {"min": "50ms", "max": "500ms"}},
        health={"ready_timeout": "3s"},
        rollover={"graceful_timeout": "3s"},
        hold={"timeout": "120s"},
    )
    relayd.start({"web": service}, threads=2)
    chaos = Chaos(relayd, seed)
    with Load(relayd.address, clients=8, options=["--think", "2", "--timeout", "100"]) as load:
        relayd.wait_for(lambda s: s["accepted"] > 50, "clients are being served")
        for _ in range(STEPS):
            chaos.step()
        print(f"seed {seed}: " + ", ".join(chaos.story))
        for each in chaos.under_way:
            each.communicate(timeout=100)
        relayd.wait_for(lambda s: s["rollover"] is None and s["phase"] in ("serving", "paused", "down"), "it has settled", seconds=60)
        relayd.ctl("resume", expect=None)
        relayd.wait_for(lambda s: s["rollover"] is None and all_ready(s), "it serves", seconds=60)
        assert relayd.rollover(env={"DEMO_FAIL": "no", "DEMO_BOOT_MS": "0"}, until="drained")["result"] == "done"
        number = relayd.service()["generation"]
        assert http.get_json(relayd.address)["generation"] == number
        report = load.finish()
    losses = report["losses"]
    assert losses["refused"] == losses["timed_out"] == losses["bad_body"] == 0, describe(report)
    # A request whose instance was killed or, in mode restart, cut, and that may not be sent once more, is told so.
    assert losses["bad_status"] == relayd.service()["answered"], describe(report)
    assert all(" 502 " in each or " 504 " in each for each in report["complaints"] if "bad_status" in each), describe(report)
    assert report["unfinished"] == report["client_errors"] == 0, describe(report)
    assert relayd.process.poll() is None
