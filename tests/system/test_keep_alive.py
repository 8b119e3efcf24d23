"""Clients that keep their connection cross from one generation to the next and notice nothing.

Whatever ends one of their connections is a loss, also where no request is under way. relayd runs as it comes: `auto`.
"""

import pytest

from harness import apps, places
from harness.load import Load, assert_nothing_lost

CLIENTS = 64
MODES = ["phased"] * 50 + ["hot"] * 20 if places.SOAK else ["phased", "hot", "phased", "phased", "hot", "phased"]
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
