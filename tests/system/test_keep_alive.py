"""Clients that keep their connection cross from one generation to the next and notice nothing.

Whatever ends one of their connections is a loss, also where no request is under way. relayd runs as it comes: `auto`.
"""

import select
import signal

import pytest

from harness import apps, http, places, processes
from harness.load import Load, assert_nothing_lost

CLIENTS = 64
MODES = ["phased"] * 50 + ["hot"] * 20 if places.SOAK else ["phased", "hot", "phased", "phased", "hot", "phased"]
KILLS = 50 if places.SOAK else 10
LIMITS = {"rollover": {"graceful_timeout": "30s"}}
THREADS = ["--worker-class", "gthread", "--threads", "4", "--keep-alive", "30"]


def cross_again_and_again(relayd, load, modes):
    """A rollover, until every client has crossed, and then the next: so each has lived through each generation."""
    relayd.wait_for(lambda service: service["requests"] > 3 * CLIENTS, "every client is being served")
    for number, mode in enumerate(modes, 1):
        result = relayd.rollover(mode, until="drained")
        assert result["result"] == "done" and result["drained"], result
        relayd.wait_for(lambda service: service["crossings"] >= number * CLIENTS, f"all cross, for the time {number}", seconds=60)
        assert load.process.poll() is None
    service = relayd.service()
    report = load.finish()
    assert service["crossings"] == len(modes) * CLIENTS, service
    assert service["answered"] == 0 and service["cut"] == 0, service
    return report


def assert_nobody_noticed(report, modes):
    assert_nothing_lost(report, at_least=CLIENTS * (len(modes) + 1))
    assert report["closed_between_requests"] == 0, report
    assert report["connections"] == CLIENTS, report
    assert report["clients_of"] == {str(number): CLIENTS for number in range(1, len(modes) + 2)}, report


def options(*more):
    return ["--keep-alive", "--think", "5", "--body", "8192", *more]


@pytest.mark.parametrize("app", ["gthread", "node", "nginx"])
def test_kept_connections_cross(relayd, app):
    service = {
        "gthread": lambda: apps.gunicorn(2, arguments=THREADS, **LIMITS),
        "node": lambda: apps.node(**LIMITS),
        "nginx": lambda: apps.nginx(relayd.folder, **LIMITS),
    }[app]()
    relayd.start({"web": service})
    check = ["--check", "length"] if app == "nginx" else []
    with Load(relayd.address, clients=CLIENTS, options=options(*check)) as load:
        report = cross_again_and_again(relayd, load, MODES)
    assert_nobody_noticed(report, MODES)


def test_an_app_that_closes_each_connection_loses_none(relayd):
    """Gunicorn's sync workers answer `Connection: close`, which is the response's own word and no loss."""
    relayd.start({"web": apps.gunicorn(2, **LIMITS)})
    with Load(relayd.address, clients=CLIENTS, options=options()) as load:
        relayd.wait_for(lambda service: service["requests"] > CLIENTS, "clients are being served")
        for mode in MODES:
            assert relayd.rollover(mode, until="drained")["result"] == "done"
            before = relayd.service()["requests"]
            relayd.wait_for(lambda service: service["requests"] > before + 2 * CLIENTS, "the new generation serves")
        report = load.finish()
    assert_nothing_lost(report, at_least=CLIENTS * len(MODES))
    assert report["closed_between_requests"] == 0, report
    assert set(report["generations"]) == {str(number) for number in range(1, len(MODES) + 2)}, report


def test_the_counts_are_told(relayd):
    relayd.start({"web": apps.node(**LIMITS)})
    with Load(relayd.address, clients=8, options=options("--count", "200")) as load:
        report = load.wait()
    assert_nothing_lost(report, at_least=200)
    service = relayd.service()
    generation = service["generations"][0]
    assert service["requests"] == generation["requests"] == generation["instances"][0]["requests"] == 200, service
    relayd.rollover(until="drained")
    event = relayd.wait_event("generation_stopped", generation=1)
    assert event["details"]["generation_requests"] == event["details"]["requests"] == "200", event
    assert event["details"]["crossings"] == event["details"]["sent_again"] == event["details"]["answered"] == "0", event
    assert "200 requests answered by the app" in relayd.ctl("status", "web").stdout


@pytest.mark.parametrize("instances", [1, 2])
def test_a_process_that_is_killed_costs_them_nothing(relayd, instances):
    """A GET that it had taken, or that stood in the queue of its listener, is sent once more; where there is no other, when there is.

    Once only: so everybody is served before the next one is killed. Node takes one new connection in a turn of its loop, in
    which it serves all those that it has taken.
    """
    clients = 16
    delays = {"restart_delay": {"min": "50ms", "max": "100ms"}, "instances": instances}
    relayd.start({"web": apps.node(backend=delays)})
    with Load(relayd.address, clients=clients, options=["--keep-alive", "--post", 0]) as load:
        for _ in relayd.kill_again_and_again(KILLS):
            served = relayd.service()["requests"]
            relayd.wait_for(lambda service: service["requests"] >= served + clients**2, "everybody is served")  # noqa: B023
        report = load.finish()
    assert_nothing_lost(report, at_least=KILLS)
    assert report["closed_between_requests"] == 0 and report["connections"] == clients, report
    assert relayd.service()["answered"] == 0


def test_requests_that_came_while_relayd_was_stopped_are_served(relayd):
    """Longer than idle_timeout, as a debugger or a frozen machine does: what has come is looked at before the clock is."""
    relayd.start({"web": apps.demo(limits={"idle_timeout": "2s"})})
    for _ in range(5):
        links = [http.connect(relayd.address) for _ in range(50)]
        for link in links:
            http.ask(link, close=False)
            assert http.answer(link)[0] == 200
        relayd.send(signal.SIGSTOP)
        processes.wait_until(lambda: processes.state(relayd.process.pid) == "T", "it is stopped")
        idle = [link for link in links if not select.select([link], [], [], 0)[0]]  # a slow machine: the others were closed
        for link in idle:
            http.ask(link)
        processes.pause(2.5)  # longer than idle_timeout
        relayd.send(signal.SIGCONT)
        for link in idle:
            assert http.answer(link)[0] == 200
        for link in links:
            link.close()
        if len(idle) == len(links):
            return
    pytest.fail("the machine is too slow for a connection to be idle for less than two seconds")
