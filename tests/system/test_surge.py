"""A phased rollover with a surge: instances are replaced one by one, and brought back where that fails half-way."""

import threading

from harness import apps
from harness.load import Load, assert_nothing_lost

INSTANCES = 3
FAILS_AT_ITS_LAST = {"DEMO_FAIL": "exit", "DEMO_FAIL_INSTANCE": str(INSTANCES - 1)}


def one_by_one(app, **more):
    service = app(**more)
    service["backend"]["instances"] = INSTANCES
    service["rollover"] = {**service.get("rollover", {}), "surge": 1}
    return service


class Census:
    """How many processes the service has at most, and how few of its instances are ready, as long as it is watched."""

    def __init__(self, relayd):
        self.relayd, self.most, self.least_ready = relayd, 0, INSTANCES
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def watch(self):
        while not self.over.is_set():
            instances = [each for generation in self.relayd.service()["generations"] for each in generation["instances"]]
            self.most = max(self.most, sum(1 for each in instances if each["pid"]))
            self.least_ready = min(self.least_ready, sum(1 for each in instances if each["state"] == "ready"))


def test_instances_are_replaced_one_by_one(relayd):
    relayd.start({"web": one_by_one(apps.demo)})
    with Load(relayd.address, clients=16) as load, Census(relayd) as census:
        relayd.wait_for(lambda service: service["accepted"] > 100, "clients are being served")
        for number in range(1, 6):
            result = relayd.rollover("phased", until="drained")
            assert (result["result"], result["to"]) == ("done", number + 1), result
        report = load.finish()
    assert_nothing_lost(report, at_least=500)
    assert len(report["instances"]) == 6 * INSTANCES, report["instances"]
    assert census.most == INSTANCES + 1
    assert census.least_ready == INSTANCES


def test_a_failure_half_way_leaves_a_full_set_of_the_old_ones(relayd):
    relayd.start({"web": one_by_one(apps.demo)})
    with Load(relayd.address, clients=16) as load, Census(relayd) as census:
        relayd.wait_for(lambda service: service["accepted"] > 100, "clients are being served")
        failed = relayd.rollover("phased", env=FAILS_AT_ITS_LAST, expect=1)
        assert failed["result"] == "failed" and "exit status 3" in failed["reason"], failed
        service = relayd.service()
        assert service["generation"] == 1 and service["phase"] == "serving", service
        old = relayd.generation(1)["instances"]
        assert [each["state"] for each in old] == ["ready"] * INSTANCES, old
        relayd.wait_event("generation_stopped", generation=2)
        assert relayd.rollover("phased")["result"] == "done"
        report = load.finish()
    assert_nothing_lost(report, at_least=500)
    assert census.most == INSTANCES + 1


def test_scaled_while_instances_are_replaced(relayd):
    relayd.start({"web": one_by_one(apps.demo, backend={"instances": INSTANCES}, rollover={"graceful_timeout": "20s"})})
    with Load(relayd.address, clients=8) as load:
        relayd.wait_for(lambda service: service["accepted"] > 100, "clients are being served")
        rolling = relayd.begin_rollover("--mode", "phased")
        relayd.wait_event("generation_starting", generation=2)
        relayd.ctl("scale", "5")
        relayd.wait_event("rollover_done")
        assert rolling.wait(30) == 0
        relayd.wait_for(lambda service: len(service["generations"]) == 1, "the old generation has gone")
        report = load.finish()
    assert_nothing_lost(report)
    assert len(relayd.generation(2)["instances"]) == 5
