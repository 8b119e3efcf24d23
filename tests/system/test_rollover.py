"""The headline: rolled over again and again under load, and no client notices."""

import contextlib

import pytest

from harness import apps, http, places, processes
from harness.load import KINDS, Load, assert_nothing_lost, describe

LONGER = 20 if places.SOAK else 1
BY_DEFINITION = {"reset", "truncated", "closed_early"}  # what a restart does to the connections of the old generation


def assert_only_cut(relayd, report):
    """Nothing was lost but what stood on the old generation; HTTP clients were told so, by a 502 or a 504 of relayd's own."""
    assert report["losses"]["bad_status"] == relayd.service()["answered"], describe(report)
    assert {kind for kind in KINDS if report["losses"][kind]} - {"bad_status"} <= BY_DEFINITION, describe(report)


def roll_over(relayd, mode, times, **load_options):
    """`times` rollovers under load; every generation must have answered. The load client's report."""
    with Load(relayd.address, **load_options) as load:
        relayd.wait_for(lambda service: service["accepted"] > 200, "clients are being served")
        for number in range(1, times + 1):
            result = relayd.rollover(mode, until="drained")
            assert (result["result"], result["from"], result["to"]) == ("done", number, number + 1), result
            assert result["mode"] == mode
            before = relayd.service()["accepted"]
            relayd.wait_for(lambda service: service["accepted"] > before + 100, "the new generation serves")
        report = load.finish()
    assert set(report["generations"]) == {str(number) for number in range(1, times + 2)}, report
    return report


@pytest.mark.parametrize("mode", ["phased", "hot"])
def test_gunicorn_loses_nothing(relayd, mode):
    relayd.start({"web": apps.gunicorn(workers=2)})
    report = roll_over(relayd, mode, 10 * LONGER, clients=32, options=["--post", 30])
    assert_nothing_lost(report, at_least=1000)


def test_gunicorn_restart_refuses_nobody(relayd):
    relayd.start({"web": apps.gunicorn(workers=2)})
    report = roll_over(relayd, "restart", 5 * LONGER, clients=32, options=["--post", 30])
    assert_only_cut(relayd, report)
    assert report["lost"] <= 5 * LONGER * 32, describe(report)
    assert report["unfinished"] == report["client_errors"] == 0


@pytest.mark.threads
@pytest.mark.parametrize("mode", ["phased", "hot", "restart"])
def test_several_threads_and_instances(relayd, mode):
    relayd.start({"web": apps.demo(backend={"instances": 3, "balance": "round_robin"})}, threads=4)
    report = roll_over(relayd, mode, 4 * LONGER, clients=32)
    if mode == "restart":
        assert_only_cut(relayd, report)
    else:
        assert_nothing_lost(report, at_least=1000)
    assert len(report["instances"]) == 3 * (4 * LONGER + 1), report["instances"]


@pytest.mark.threads
def test_kept_connections_stay_with_their_generation(relayd):
    relayd.start({"web": apps.demo(protocol="tcp")}, threads=2)
    with http.connect(relayd.address) as kept:
        http.ask(kept, close=False)
        assert http.answer(kept)[1]["x-generation"] == "1"
        relayd.rollover("phased")
        assert http.get_json(relayd.address)["generation"] == 2
        http.ask(kept, close=False)
        assert http.answer(kept)[1]["x-generation"] == "1"
        assert relayd.generation(1)["state"] == "draining"
    relayd.wait_event("generation_stopped", generation=1)


def test_two_copies_never_run_at_once_in_hot_mode(relayd):
    """The app refuses to run beside another copy: with hot rollovers it never has to."""
    lock = relayd.folder / "only-one"
    relayd.start({"web": apps.demo(backend={"env": {"DEMO_EXCLUSIVE": str(lock)}}, rollover={"mode": "hot"})})
    report = roll_over(relayd, "hot", 3, clients=16)
    assert_nothing_lost(report)
    failed = relayd.rollover("phased", expect=1)
    assert "another copy holds" in failed["reason"]


def test_held_clients_are_answered_in_arrival_order_by_the_new_generation(relayd):
    relayd.start({"web": apps.demo(backend={"env": {"DEMO_BOOT_MS": "700"}})}, threads=1)
    rollover = relayd.begin_rollover("--mode", "hot")
    relayd.wait_event("holding", after=1)
    relayd.wait_for(lambda service: service["holding"], "clients are held")
    waiting = []
    for _ in range(60):
        waiting.append(http.connect(relayd.address))
        http.ask(waiting[-1])
    relayd.wait_for(lambda service: service["held"] == 60, "all of them are held")
    answers = [http.answer(link)[1] for link in waiting]
    for link in waiting:
        link.close()
    assert {answer["x-generation"] for answer in answers} == {"2"}
    accepted = [int(answer["x-accepted"]) for answer in answers]
    assert accepted == sorted(accepted)
    assert rollover.wait(30) == 0
    rollover.communicate()


def test_load_in_hot_mode_is_answered_in_arrival_order(relayd):
    relayd.start({"web": apps.demo(backend={"env": {"DEMO_BOOT_MS": "300"}})}, threads=1)
    report = roll_over(relayd, "hot", 5 * LONGER, clients=32, options=["--order"])
    assert_nothing_lost(report)
    assert report["order_compared"] >= 5 * LONGER * 32
    assert report["order_violations"] == 0


def test_more_clients_than_may_be_held_wait_in_the_kernel(relayd):
    relayd.start({"web": apps.demo(backend={"env": {"DEMO_BOOT_MS": "700"}}, hold={"max_connections": 10})}, threads=1)
    rollover = relayd.begin_rollover("--mode", "hot")
    relayd.wait_for(lambda service: service["holding"], "clients are held")
    waiting = [http.connect(relayd.address) for _ in range(40)]
    for link in waiting:
        http.ask(link)
    held = relayd.wait_for(lambda service: service["held"] > 0, "some are held")["held"]
    assert held <= 10
    assert {http.answer(link)[1]["x-generation"] for link in waiting} == {"2"}
    for link in waiting:
        link.close()
    assert rollover.wait(30) == 0
    rollover.communicate()


def test_hold_timeout_ends_the_wait(relayd):
    relayd.start({"web": apps.demo(protocol="tcp", hold={"timeout": "500ms"})})
    relayd.ctl("pause")
    with http.connect(relayd.address) as link:
        http.ask(link)
        with contextlib.suppress(ConnectionResetError):  # its request was never read
            assert link.recv(100) == b""
    assert relayd.wait_for(lambda service: service["hold_timeouts"] == 1, "it is counted")
    relayd.ctl("resume")
    assert http.get_json(relayd.address)["service"] == "web"


def test_the_new_environment_is_read_at_every_rollover(relayd):
    env_file = relayd.folder / "app.env"
    env_file.write_text("DEMO_FAIL=exit\n")
    relayd.start({"web": apps.demo(backend={"env_file": str(env_file), "env": {"DEMO_FAIL": "no"}})}, wait=False)
    assert relayd.wait_end() == 3, "env_file wins over env"
    relayd.process = None
    env_file.write_text("DEMO_FAIL=no\n")
    relayd.launch([places.program("relayd"), "--config", str(relayd.config_file)])
    env_file.write_text("DEMO_FAIL=exit\n")
    assert "asked to fail" in relayd.rollover(expect=1)["reason"]
    assert relayd.rollover(env={"DEMO_FAIL": "no"})["result"] == "done"


@pytest.mark.parametrize("protocol", ["tcp", "auto"])
def test_a_crashed_instance_is_started_again_while_clients_are_held(relayd, protocol):
    relayd.start({"web": apps.demo(protocol=protocol, backend={"restart_delay": {"min": "200ms", "max": "1s"}})})
    with Load(relayd.address, clients=8) as load:
        relayd.wait_for(lambda service: service["accepted"] > 100, "clients are served")
        (pid,) = relayd.instance_pids()
        assert processes.alive(pid)
        processes.kill(pid)
        relayd.wait_for(lambda s: s["phase"] == "serving" and relayd.instance_pids() not in ([], [pid]), "it is back")
        report = load.finish()
    assert_only_cut(relayd, report)
    assert report["lost"] <= 8, describe(report)
    assert relayd.generation(1)["instances"][0]["restarts"] == 1
