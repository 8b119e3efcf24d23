"""A new generation that does not come up: the old one serves throughout, and the reason is told."""

import pytest

from harness import apps, http
from harness.load import Load, assert_nothing_lost

WAYS = {
    # name: (environment of the new generation, words of the reason)
    "exits at once": ({"DEMO_FAIL": "exit"}, ["exit status 3", "cannot start: asked to fail"]),
    "hangs": ({"DEMO_FAIL": "hang"}, ["ready_timeout"]),
    "fails its check": ({"DEMO_FAIL": "check"}, ["503"]),
    "dies between ready and switch": (
        {"DEMO_FAIL": "die-after-ready", "DEMO_FAIL_INSTANCE": "0"},
        ["exit status 7", "dying after it was ready"],
    ),
}


def start(relayd, mode):
    # Instance 0 is ready at once, instance 1 after a second: between the two there is time to die.
    service = apps.demo("--boot-ms", "{instance}000", health={"ready_timeout": "3s"}, rollover={"mode": mode})
    service["backend"]["instances"] = 2
    relayd.start({"web": service})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["phased", "hot"])
def test_nobody_loses_anything_and_the_reason_is_told(relayd, mode, way):
    environment, words = WAYS[way]
    start(relayd, mode)
    with Load(relayd.address, clients=8, options=["--think", "2"]) as load:
        relayd.wait_for(lambda service: service["accepted"] > 50, "clients are being served")
        failed = relayd.rollover(env=environment, expect=1)
        assert failed["result"] == "failed"
        for word in words:
            assert word in failed["reason"], failed
        last = relayd.service()["last_rollover"]
        assert (last["result"], last["reason"]) == ("failed", failed["reason"])
        event = relayd.wait_event("rollover_failed")
        assert words[0] in event["details"]["reason"]

        mended = relayd.rollover()
        assert mended["result"] == "done"
        before = relayd.service()["accepted"]
        relayd.wait_for(lambda service: service["accepted"] > before + 50, "the mended generation serves")
        report = load.finish()
    assert_nothing_lost(report)
    answered = {int(number) for number in report["generations"]}
    assert failed["to"] not in answered, "no client reaches a generation that is not ready"
    assert 1 in answered and mended["to"] in answered
    if mode == "phased":
        assert answered == {1, mended["to"]}, "the old one served throughout"


def test_the_reason_is_told_to_people_too(relayd):
    start(relayd, "phased")
    ended = relayd.ctl("rollover", "--env", "DEMO_FAIL=exit", expect=1)
    told = ended.stdout + ended.stderr
    assert "exit status 3" in told and "cannot start: asked to fail" in told
    assert http.get_json(relayd.address)["generation"] == 1


def test_a_command_that_does_not_exist(relayd):
    start(relayd, "phased")
    relayd.change(backend={"command": ["/nonexistent/app"]})
    ended = relayd.ctl("reload", expect=None)
    told = ended.stdout + ended.stderr
    event = relayd.wait_event("rollover_failed")
    assert "/nonexistent/app" in event["details"]["reason"], (told, event)
    assert http.get_json(relayd.address)["generation"] == 1


def test_the_first_generation_cannot_start(relayd):
    relayd.start({"web": apps.demo("--fail", "exit")}, wait=False)
    assert relayd.wait_end() == 3
    assert "exit status 3" in relayd.log() and "asked to fail" in relayd.log()
    relayd.assert_nothing_left()


def test_abort(relayd):
    start(relayd, "phased")
    rollover = relayd.begin_rollover("--env", "DEMO_FAIL=hang", "--json")
    relayd.wait_event("generation_starting", generation=2)
    relayd.ctl("abort")
    output, _ = rollover.communicate(timeout=30)
    assert rollover.returncode == 1 and '"aborted"' in output, output
    assert relayd.service()["generation"] == 1
    relayd.ctl("abort", expect=1)  # nothing to abort
    assert relayd.rollover()["result"] == "done"


def test_abort_of_a_hot_rollover_brings_the_previous_definition_back(relayd):
    start(relayd, "hot")
    rollover = relayd.begin_rollover("--env", "DEMO_FAIL=hang")
    relayd.wait_event("generation_starting", generation=2)
    with http.connect(relayd.address) as held:
        http.ask(held)
        relayd.wait_for(lambda service: service["held"] == 1, "a client is held")
        relayd.ctl("abort")
        assert http.answer(held)[0] == 200
    assert rollover.wait(30) == 1
    rollover.communicate()


def test_timeout_of_relayctl_leaves_the_rollover_going(relayd):
    start(relayd, "phased")
    relayd.ctl("rollover", "--timeout", "200ms", expect=5)
    relayd.wait_event("rollover_done", generation=2)
    assert relayd.service()["generation"] == 2
