"""A WebSocket echo that says which generation speaks; GET /up is its health check."""

import asyncio
import http
import os
import signal

import websockets

GENERATION = os.environ["RELAY_GENERATION"]


async def echo(socket):
    async for text in socket:
        await socket.send(f"{GENERATION} {text}")


async def health(path, _):
    return (http.HTTPStatus.OK, [("X-Generation", GENERATION)], b"up\n") if path == "/up" else None


async def main():
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: ended.done() or ended.set_result(None))
    where = (os.environ["HOST"], int(os.environ["PORT"]))
    async with websockets.serve(echo, *where, process_request=health, ping_interval=None, close_timeout=1):
        await ended


asyncio.run(main())
