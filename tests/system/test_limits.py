"""Many connections, few descriptors."""

import resource
import selectors
import socket

import pytest

from harness import apps, http
from harness.load import Load, assert_nothing_lost

CONNECTIONS = 9000
DESCRIPTORS = 20000


@pytest.mark.parametrize("protocol", ["tcp", "auto"])
def test_9000_connections_stay_open_through_a_rollover(relayd, protocol):
    """Silent ones: relayed as they are, they stay with their generation; else they follow the switch."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < DESCRIPTORS:
        pytest.skip(f"needs {DESCRIPTORS} descriptors, the hard limit is {hard}: raise it (ulimit -Hn)")
    relayd.start(
        {"web": apps.demo(protocol=protocol, rollover={"graceful_timeout": "120s"}, backend={"limits": {"nofile": DESCRIPTORS}})},
        prefix=["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"],
    )
    links = []
    try:
        for _ in range(CONNECTIONS):
            links.append(http.connect(relayd.address, 60))
        relayd.wait_for(lambda s: relayd.generation(1)["connections"] == CONNECTIONS, "all are connected", seconds=60)
        relayd.rollover("phased", env={"DEMO_BOOT_MS": "100"})
        assert http.get_json(relayd.address)["generation"] == 2
        theirs = {"tcp": 1, "auto": 2}[protocol]
        relayd.wait_for(lambda s: relayd.generation(theirs)["connections"] >= CONNECTIONS, "all are with one generation", seconds=60)
        for link in links:
            http.ask(link, close=False)
        answered = [http.answer(link)[1]["x-generation"] for link in links]
        assert answered == [str(theirs)] * CONNECTIONS
    finally:
        for link in links:
            link.close()
    relayd.wait_event("generation_stopped", generation=1, seconds=60)


def test_200_clients_with_64_descriptors_are_all_served(relayd):
    relayd.start({"web": apps.demo()}, prefix=["prlimit", "--nofile=64:64"])
    with Load(relayd.address, clients=200, options=["--count", "3000", "--timeout", "60"]) as load:
        report = load.wait(120)
    assert_nothing_lost(report, at_least=3000)


def test_200_kept_clients_with_64_descriptors_wait_their_turn(relayd):
    """Each keeps its connection for a while: those that find no room wait in the kernel's queue, none is dropped."""
    relayd.start({"web": apps.demo()}, prefix=["prlimit", "--nofile=64:64"])
    links = [http.connect(relayd.address, 60) for _ in range(200)]
    for link in links:
        http.ask(link, "/slow?ms=200")
    answer_as_they_come(links)


def answer_as_they_come(links, look=lambda: None):
    """Each client goes as soon as it has its answer, which makes room for the next."""
    with selectors.DefaultSelector() as waiting:
        for link in links:
            waiting.register(link, selectors.EVENT_READ)
        while waiting.get_map():
            look()
            ready = waiting.select(60)
            assert ready, f"{len(waiting.get_map())} clients wait in vain"
            for key, _ in ready:
                assert http.answer(key.fileobj)[0] == 200
                waiting.unregister(key.fileobj)
                key.fileobj.close()


def test_max_connections_makes_clients_wait(relayd):
    relayd.start({"web": apps.demo(limits={"max_connections": 5})}, threads=1)
    links = [http.connect(relayd.address, 60) for _ in range(20)]
    for link in links:
        http.ask(link, "/slow?ms=100")
    seen = []
    answer_as_they_come(links, lambda: seen.append(relayd.service()["active"]))
    assert 1 <= max(seen) <= 5
    assert "limits.max_connections is reached" in relayd.log()


def test_idle_timeout_closes(relayd):
    relayd.start({"web": apps.demo(limits={"idle_timeout": "500ms"})})
    with http.connect(relayd.address) as link:
        http.ask(link, close=False)
        assert http.answer(link)[0] == 200
        assert link.recv(1) == b""


def test_a_half_closed_client_still_gets_its_answer(relayd):
    relayd.start({"web": apps.demo()})
    with http.connect(relayd.address) as link:
        http.ask(link, "/slow?ms=300")
        link.shutdown(socket.SHUT_WR)
        assert http.answer(link)[0] == 200
