"""Upgraded connections through rollovers: how long they stay, and how they are closed."""

import asyncio
import time

import pytest
import websockets

from harness import apps


def websocket_service(**rollover):
    return apps.websocket(rollover={"graceful_timeout": "60s", **rollover})


async def says(link, text="hello"):
    await link.send(text)
    return await asyncio.wait_for(link.recv(), 30)


def url(relayd):
    return f"ws://{relayd.address}/"


@pytest.mark.parametrize("protocol", ["auto", "http"])
def test_a_websocket_lives_on_until_tunnel_timeout(relayd, protocol):
    relayd.start({"web": {**websocket_service(tunnel_timeout="3s"), "protocol": protocol}})

    async def scene():
        async with websockets.connect(url(relayd), ping_interval=None) as old:
            assert await says(old) == "1 hello"
            began = time.monotonic()
            await asyncio.to_thread(relayd.rollover, "phased")
            assert await says(old, "again") == "1 again"
            async with websockets.connect(url(relayd), ping_interval=None) as new:
                assert await says(new) == "2 hello"
                with pytest.raises(websockets.ConnectionClosed):
                    while True:  # busy ones are closed too
                        assert await says(old, "still") == "1 still"
                        await asyncio.sleep(0.01)
                assert time.monotonic() - began >= 2.9
                assert await says(new, "and on") == "2 and on"

    asyncio.run(scene())
    relayd.wait_event("generation_stopped", generation=1, seconds=30)  # well before graceful_timeout


def test_a_tunnel_outlives_graceful_timeout_where_it_may(relayd):
    relayd.start({"web": websocket_service(graceful_timeout="1s", tunnel_timeout="60s")})

    async def scene():
        async with websockets.connect(url(relayd), ping_interval=None) as old:
            assert await says(old) == "1 hello"
            await asyncio.to_thread(relayd.rollover, "phased")
            until = time.monotonic() + 2
            while time.monotonic() < until:
                assert await says(old) == "1 hello"
                await asyncio.sleep(0.05)

    asyncio.run(scene())
    relayd.wait_event("generation_stopped", generation=1, seconds=30)


@pytest.mark.parametrize("graceful", ["5s", "60s"])
def test_tunnels_are_closed_over_the_spread(relayd, graceful):
    number, spread = 20, 4
    relayd.start({"web": websocket_service(graceful_timeout=graceful, tunnel_timeout="5s", close_spread=f"{spread}s")})
    at = []

    async def client(opened, count):
        async with websockets.connect(url(relayd), ping_interval=None) as link:
            assert await says(link) == "1 hello"
            count.append(link)
            if len(count) == number:
                opened.set()
            await link.wait_closed()
            at.append(time.monotonic())

    async def scene():
        opened, count = asyncio.Event(), []
        clients = [asyncio.create_task(client(opened, count)) for _ in range(number)]
        await opened.wait()
        await asyncio.to_thread(relayd.rollover, "phased")
        await asyncio.wait_for(asyncio.gather(*clients), 60)

    asyncio.run(scene())
    assert len(at) == number
    assert max(at) - min(at) >= spread / 2, [each - min(at) for each in at]
