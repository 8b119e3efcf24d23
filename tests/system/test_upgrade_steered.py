"""relayd is replaced while it steers: the kernel's program and its tables stay, so that there is no moment in which a new
connection goes anywhere else. In network namespaces of the test's own."""

import pytest

from harness import apps, namespaces, places, upgrades
from harness.load import Load, assert_nothing_lost

UPGRADES = 20 if places.SOAK else 4
PORT = 8080
ADDRESS = f"{namespaces.HOST}:{PORT}"
OTHER = f"{namespaces.HOST}:{PORT + 1}"


@pytest.fixture
def network():
    with namespaces.made(namespaces.Pair(), "nothing: steering over an upgrade") as made:
        yield made


def steered(service, address, **backend):
    return {**service, "listen": [address], "backend": {**service["backend"], "steering": "on", **backend}}


def start(relayd, network):
    services = {
        "web": steered(apps.nginx(relayd.folder), ADDRESS),
        "api": steered(apps.activated(apps.gunicorn_with_passed_sockets()), OTHER),
    }
    relayd.start(services, prefix=network.host, threads=2)
    for name in services:
        relayd.wait_for(lambda service: service["steering"] == "steered", "it is steered", name=name)


def load(network, address):
    return Load(address, clients=16, options=["--check", "length", "--timeout", 50], prefix=network.clients)


def test_upgrades_leave_no_gap(relayd, network):
    start(relayd, network)
    with load(network, ADDRESS) as web, load(network, OTHER) as api:
        for number in range(UPGRADES):
            before = [relayd.service(name)["accepted"] for name in ("web", "api")]
            upgrades.upgrade(relayd)
            after = [relayd.service(name)["accepted"] for name in ("web", "api")]
            assert after == before, "somebody was not steered while relayd was replaced"
            for name in ("web", "api"):
                assert relayd.service(name)["steering"] == "steered"
            mode = "hot" if number % 2 else "phased"
            assert relayd.rollover(mode, until="drained", service="web")["result"] == "done"
        for report in (web.finish(), api.finish()):
            assert_nothing_lost(report, at_least=200)


def test_a_drain_of_steered_connections_goes_on(relayd, network):
    """The old generation's steered connections are counted by the new image too: it stops when the last one has ended."""
    start(relayd, network)
    with load(network, ADDRESS) as web:
        rollover = relayd.begin_rollover("web", "--until", "drained")
        relayd.upgrade()
        output, errors = rollover.communicate(timeout=60)
        assert rollover.returncode == 0, (output, errors)
        relayd.wait_for(lambda service: len(service["generations"]) == 1, "the old generation is gone", name="web")
        assert_nothing_lost(web.finish(), at_least=50)


def test_the_way_back_leaves_no_gap(relayd, network):
    relayd.start(
        {"web": steered(apps.nginx(relayd.folder), ADDRESS)},
        prefix=[*network.host, "env", "RELAYD_FAULT=crash"],
        threads=2,
    )
    with load(network, ADDRESS) as web:
        before = relayd.service()["accepted"]
        relayd.upgrade(places.program("relayd_faulty"), expect=1)
        assert relayd.service()["accepted"] == before
        assert relayd.service()["steering"] == "steered"
        assert relayd.rollover(until="drained")["result"] == "done"
        upgrades.upgrade(relayd)
        assert_nothing_lost(web.finish(), at_least=50)
