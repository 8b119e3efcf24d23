"""hold.release_rate and rollover.close_spread: what is done slowly on purpose, judged by least times and by order."""

import contextlib
import selectors
import signal
import time

import pytest

from harness import apps, http

TICK = 0.05  # seconds: relayd may let go at once what the pace allowed since its last look


@contextlib.contextmanager
def clients(relayd, number, close=True):
    """That many, each with a request sent, in this order."""
    with contextlib.ExitStack() as stack:
        links = []
        for _ in range(number):
            links.append(stack.enter_context(http.connect(relayd.address, 60)))
            http.ask(links[-1], close=close)
        yield links


# ---- release_rate


@pytest.mark.parametrize("threads", [1, 3])
def test_held_clients_are_let_go_in_order_and_at_the_pace(relayd, threads):
    held, rate = 31, 20
    service = apps.naming_its_client(hold={"release_rate": rate})
    relayd.start({"web": service}, threads=threads)
    with http.connect(relayd.address) as kept:  # holds the old generation until all are waiting
        http.ask(kept, close=False)
        http.answer(kept)
        rollover = relayd.begin_rollover("--mode", "hot")
        relayd.wait_for(lambda s: s["holding"], "clients are held")
        with clients(relayd, held) as links:
            relayd.wait_for(lambda s: s["held"] == held, "all are held")
            kept.close()
            answers = [http.answer(link)[1] for link in links]
    assert rollover.wait(30) == 0
    rollover.communicate()
    assert {answer["x-generation"] for answer in answers} == {"2"}
    accepted = [int(answer["x-accepted"]) for answer in answers]
    if threads == 1:  # each thread keeps the order of its own clients
        assert accepted == sorted(accepted)
    # Noise can only lengthen this: the first cannot be let go before the app listened.
    took = (max(int(answer["x-arrived"]) for answer in answers) - int(answers[0]["x-started"])) / 1e9
    assert took >= (held - 1) / rate - 2 * TICK, f"{held} clients within {took:.2f} s"
    assert relayd.service()["hold_timeouts"] == 0


def test_new_clients_are_not_held_behind_those_that_wait_for_their_turn(relayd):
    relayd.start({"web": apps.naming_its_client(hold={"release_rate": 1, "timeout": "1h"})})
    relayd.ctl("pause")
    with clients(relayd, 60) as links:
        relayd.wait_for(lambda s: s["held"] == 60, "all are held")
        resume = relayd.begin("resume")
        http.answer(links[0])
        relayd.ctl("connections")  # each thread has answered, and so knows of the release
        assert http.get(relayd.address)[0] == 200
        assert relayd.service()["held"] > 0, "the new one was served before the last that had waited"
        assert resume.wait(30) == 0
        resume.communicate()
        held = relayd.service()["held"]
        # From now on as fast as they are taken.
        relayd.change(hold={"release_rate": 0})
        relayd.ctl("reload")
        for link in links[1:]:
            assert http.answer(link)[0] == 200
    assert held <= 60


def test_a_stop_comes_after_those_who_wait_for_their_turn(relayd):
    relayd.start({"web": apps.naming_its_client(hold={"release_rate": 20})})
    relayd.ctl("pause")
    with clients(relayd, 30) as links:
        relayd.wait_for(lambda s: s["held"] == 30, "all are held")
        resume = relayd.begin("resume")
        assert http.answer(links[0])[0] == 200
        assert resume.wait(30) == 0
        resume.communicate()
        assert relayd.service()["held"] > 0
        relayd.send(signal.SIGTERM)
        for link in links[1:]:
            assert http.answer(link)[0] == 200
    assert relayd.wait_end() == 0


# ---- close_spread


def kept_links(stack, relayd, number):
    links = []
    for _ in range(number):
        links.append(stack.enter_context(http.connect(relayd.address, 60)))
        http.ask(links[-1], close=False)
        assert http.answer(links[-1])[0] == 200
    return links


def closed_first(waiting, links, seconds=60):
    """Waits until some are closed by relayd, which are then taken out of `waiting`."""
    ready = [key.fileobj for key, _ in waiting.select(seconds)]
    for link in ready:
        with contextlib.suppress(ConnectionResetError):
            assert link.recv(1) == b""
        waiting.unregister(link)
        links.remove(link)
    return len(ready)


def watched(stack, links):
    waiting = stack.enter_context(selectors.DefaultSelector())
    for link in links:
        waiting.register(link, selectors.EVENT_READ)
    return waiting


@pytest.mark.parametrize("threads", [1, 3])
def test_idle_clients_are_closed_over_the_spread_and_all_by_its_end(relayd, threads):
    number, graceful, spread = 20, 5, 4
    service = apps.demo(protocol="tcp", rollover={"graceful_timeout": f"{graceful}s", "close_spread": f"{spread}s"})
    relayd.start({"web": service}, threads=threads)
    with contextlib.ExitStack() as stack:
        links = kept_links(stack, relayd, number)
        waiting = watched(stack, links)
        began = time.monotonic()
        relayd.rollover("phased")
        at = []
        while links:
            closed = closed_first(waiting, links)
            assert closed, "none is closed any more"
            at += [time.monotonic() - began] * closed
    # Noise can only make these later: none before the spread begins, and none before its share of it is over.
    for index, seconds in enumerate(at):
        earliest = graceful - spread + spread * (index - threads) / number - 2 * TICK
        assert seconds >= earliest, f"client {index} of {number} was closed after {seconds:.2f} s, not {earliest:.2f}"
    relayd.wait_event("generation_stopped", generation=1)
    assert relayd.service()["cut"] == number


def test_the_end_of_graceful_timeout_closes_whoever_is_busy(relayd):
    relayd.start({"web": apps.demo(protocol="tcp", rollover={"graceful_timeout": "2s", "close_spread": "2s"})}, threads=1)
    with contextlib.ExitStack() as stack:
        links = kept_links(stack, relayd, 6)
        for link in links:
            http.ask(link, "/slow?ms=60000", close=False)
        relayd.rollover("phased", until="drained")
        for link in links:
            with contextlib.suppress(ConnectionResetError):
                assert link.recv(1) == b""


def test_an_abort_ends_the_spread(relayd):
    """The old generation serves again while the spread is under way: who is left stays."""
    number = 60
    rollover = {"graceful_timeout": "60s", "close_spread": "60s"}
    relayd.start({"web": apps.demo(protocol="tcp", rollover=rollover)}, threads=1)
    with contextlib.ExitStack() as stack:
        links = kept_links(stack, relayd, number)
        waiting = watched(stack, links)
        # Hot: the rollover goes on as long as the old generation drains, and so can be aborted.
        under_way = relayd.begin_rollover("--mode", "hot")
        assert closed_first(waiting, links) >= 1
        relayd.ctl("abort")
        assert under_way.wait(30) == 1
        under_way.communicate()
        left = relayd.generation(1)["connections"]
        assert 0 < left < number
        while len(links) > left:
            assert closed_first(waiting, links) >= 1
        with pytest.raises(AssertionError):  # at one a second, as before, somebody would be
            relayd.wait_for(lambda s: relayd.generation(1)["connections"] < left, "somebody is closed", seconds=4)
        for link in links:
            http.ask(link, close=False)
            assert http.answer(link)[1]["x-generation"] == "1"
