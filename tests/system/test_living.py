"""The crowd of living connections is the witness of every loss by an upgrade: here the app misbehaves on purpose, without
relayd, and each deed must be counted once, under its name."""

import signal
import subprocess

import pytest

from harness import http, living, places, processes

ALL = [kind for kinds in living.SHARES.values() for kind in kinds]
ECHOES = ["ping_pong", "websocket", "kept", "pipelined"]
ENDED = {"closed": 1}  # or reset, by the kernel, where the app has left bytes unread
# What the app does at its fifth answer, to which kinds, and what has to be counted.
DEEDS = [
    *[(kind, "drop", {"bytes_lost": 1}) for kind in [*ECHOES, "half_closed", "download_fast", "download_slow"]],
    *[(kind, "repeat", {"bytes_repeated": 1}) for kind in [*ECHOES, "half_closed", "download_fast", "download_slow"]],
    *[(kind, "flip", {"damaged": 1}) for kind in [*ECHOES, "half_closed", "download_fast", "download_slow"]],
    *[(kind, "close", ENDED) for kind in ["kept", "ping_pong", "websocket", "upload_fast", "upload_slow"]],
    *[(kind, "cut", ENDED) for kind in [*ECHOES, "upload_fast"]],
    *[(kind, "reset", {"reset": 1}) for kind in [*ECHOES, "upload_fast", "upload_slow"]],
    *[(kind, "deaf", {"bytes_lost": 1}) for kind in ["half_closed_by_app", "upload_fast", "upload_slow"]],
    *[(kind, "mishear", {"damaged": 1}) for kind in ["half_closed_by_app", "upload_fast", "upload_slow"]],
    ("kept", "stray", {"bytes_repeated": 1}),
    ("ping_pong", "stray", {"bytes_repeated": 1}),
    ("upload_fast", "stray", {"bytes_repeated": 1}),
    ("half_closed", "cut", {**ENDED, "bytes_lost": None}),
    ("half_closed", "reset", {"reset": 1, "bytes_lost": None}),
    ("download_fast", "cut", {"closed": 1, "bytes_lost": None}),
    ("download_slow", "cut", {"closed": 1, "bytes_lost": None}),
]
QUICK = {"pace": 0.01, "pause_ms": 5, "size": 1 << 18}


@pytest.fixture
def start(tmp_path):
    """The app without relayd; its address."""
    started = []

    def start(*arguments):
        address = f"127.0.0.1:{places.free_port()}"
        command = [address if each == "{address}" else each for each in living.app(*arguments)]
        started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        processes.wait_until(lambda: places.listens(int(address.rpartition(":")[2])), "the app listens")
        return address, started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait(10)


@pytest.fixture
def crowd(tmp_path):
    with living.Crowd(tmp_path) as crowd:
        yield crowd


def test_every_kind_lives_and_loses_nothing(start, crowd):
    address, app = start()
    crowd.mixed(60, web=address, tunnels=address, raw=address)
    with crowd.watching() as silence:
        crowd.first_halves()
        for _ in range(3):
            crowd.round()
        crowd.second_halves()
    report = crowd.finish()
    living.assert_nothing_lost(report)
    assert set(report["kinds"]) == set(ALL)
    for kind, told in report["kinds"].items():
        assert told["connections"] >= 2 and told["operations"] >= 2, (kind, told)
    assert 0 < silence["ms"] < 20_000 and silence["kind"] in ALL, silence
    app.terminate()
    assert app.wait(10) == 0, "the app ends when its last client has gone"


@pytest.mark.parametrize("kind,deed,expected", DEEDS)
def test_a_deed_is_counted(start, crowd, kind, deed, expected):
    address, _ = start("--fault", deed, "--after", "5")
    crowd.open(kind, 3, address, **QUICK, **({"rate": 1 << 20} if kind == "download_slow" else {}))
    processes.wait_until(lambda: crowd.report()["lost"] or crowd.report()["operations"] > 50, "it is noticed")
    report = crowd.finish(seconds=10)
    counted = {loss: n for (_, loss), n in living.losses(report).items()}
    if deed in ("close", "cut") and "reset" in counted:
        counted["closed"] = counted.pop("reset")
    assert set(counted) == set(expected), (counted, report["kinds"][kind]["complaints"])
    for loss, number in expected.items():
        assert number in (None, counted[loss]), (counted, report["kinds"][kind]["complaints"])
    assert all(kind in each for each in report["kinds"][kind]["complaints"])


@pytest.mark.parametrize("deed,loss", [("drop", "damaged"), ("flip", "damaged"), ("cut", "closed"), ("reset", "reset")])
def test_a_deed_to_a_request_in_halves_is_counted(start, crowd, deed, loss):
    address, _ = start("--fault", deed, "--after", "5")
    crowd.open("halves", 4, address)
    for _ in range(2):
        crowd.first_halves()
        crowd.second_halves()
    assert living.losses(crowd.finish()) == {("halves", loss): 1}


@pytest.mark.parametrize("kind", ["idle", "idle_http"])
def test_a_silent_one_that_is_closed_meanwhile_is_counted(start, crowd, kind):
    address, app = start()
    crowd.open(kind, 3, address)
    app.kill()
    app.wait(10)
    processes.wait_until(lambda: crowd.report()["lost"] == 3, "it is noticed")
    counted = living.losses(crowd.finish())
    assert set(counted) <= {(kind, "closed"), (kind, "reset")} and sum(counted.values()) == 3


def test_one_that_finds_nobody_is_counted(crowd):
    crowd.open("kept", 2, f"127.0.0.1:{places.free_port()}")
    assert living.losses(crowd.finish()) == {("kept", "refused"): 2}


def test_silence_is_measured_and_what_never_comes_is_counted(start, crowd):
    address, app = start()
    crowd.open("ping_pong", 3, address, pace=0.01)
    crowd.round()
    with crowd.watching() as silence:
        app.send_signal(signal.SIGSTOP)
        processes.wait_until(lambda: processes.state(app.pid) == "T", "it stands still")
        processes.pause(0.5)  # what is measured
        with pytest.raises(AssertionError, match="no sign of life"):
            crowd.round(seconds=0.1)
    assert 400 < silence["ms"] < 5000 and silence["kind"] == "ping_pong", silence
    report = crowd.finish(seconds=0.5)
    assert living.losses(report) == {("ping_pong", "unanswered"): 3}
    assert report["kinds"]["ping_pong"]["silence_ms"] >= silence["ms"]


def test_rollovers_lose_nothing(relayd):
    """So that a loss in test_upgrade.py is the upgrade's."""
    services = living.services()
    relayd.start(services, threads=2)
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        crowd.mixed(100, **living.addresses(services))
        for mode in ["phased", "hot", "phased", "hot"]:
            assert relayd.rollover(mode, service="web", until="drained")["result"] == "done"
            crowd.round()
            for name in ("tunnels", "raw"):
                assert relayd.rollover("phased", service=name)["result"] == "done"
            crowd.round()
            relayd.ctl("pause", "door")
            crowd.hold(20, living.addresses(services, "door")["door"])
            relayd.ctl("resume", "door")
            crowd.answers_of_held()
        report = crowd.finish()
    print(living.table(report))
    living.assert_nothing_lost(report)


def test_a_silent_client_is_held_anew_each_time(relayd):
    """Whoever has been held once, and said nothing since, waits in the next hold as long as anybody else."""
    relayd.start({"web": living.service(hold={"timeout": "2s"})})
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        crowd.open("idle_http", 3, relayd.address)
        relayd.rollover("hot")
        processes.pause(2.2)  # longer than the hold may last
        relayd.rollover("hot")
        living.assert_nothing_lost(crowd.finish())


def test_order_is_told(start, crowd):
    address, _ = start()
    crowd.hold(20, address)
    assert crowd.answers_of_held() == sorted(crowd.answers_of_held())
    assert http.get(address, "/up")[0] == 200
