"""Obeys living.py: a command as a line of JSON on the standard input, its answer as a line on the standard output."""

import asyncio
import json
import resource
import sys
import time

from . import raw, web
from .member import Crowd

KINDS = {
    "ping_pong": raw.Echoed,
    "idle": raw.Idle,
    "held": raw.Held,
    "half_closed": raw.HalfClosed,
    "half_closed_by_app": raw.Muted,
    "websocket": web.WebSocket,
    "kept": web.Kept,
    "pipelined": web.Pipelined,
    "idle_http": web.IdleHttp,
    "halves": web.Halves,
    "download_fast": web.Download,
    "download_slow": web.Download,
    "upload_fast": web.Upload,
    "upload_slow": web.Upload,
}
OPENING_AT_ONCE = 64
ROUND = 2  # signs of life: the first may have been on its way already
LAG_MS = 20


class Obedient(Crowd):
    def __init__(self):
        super().__init__()
        self.tasks = set()

    @staticmethod
    async def pause(seconds):
        await asyncio.sleep(seconds)

    def open_again(self, member):
        if member.stopping:
            return member.end()
        return self.start(member.open())

    def start(self, coroutine):
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def measure_own_lag(self):
        """What this process itself was late is not the server's silence."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(LAG_MS / 1000)
            self.longest_own_lag_ms = max(self.longest_own_lag_ms, (time.monotonic() - before) * 1000 - LAG_MS)

    # ---- the commands

    async def open(self, kind, count, address, in_order=False, sources=(), **options):
        """Answers when each has had its first answer. `in_order`: one after the other; `sources`: local addresses, in turn."""
        members = []
        for _ in range(count):
            source = {"source": sources[len(self.members) % len(sources)]} if sources else {}
            members.append(KINDS[kind](self, kind, len(self.members), address, {**options, **source}))
            self.members.append(members[-1])
        gate = asyncio.Semaphore(1 if in_order else OPENING_AT_ONCE)

        async def one(member):
            async with gate:
                await member.open()

        await asyncio.gather(*map(one, members))
        await asyncio.gather(*(member.ready for member in members))
        return {}

    async def round(self, seconds=60):
        """Until each active one has shown signs of life anew. Those who have not, in words."""
        deadline = time.monotonic() + seconds
        before = {member: member.signs for member in self.members if member.active}
        while late := [m for m, signs in before.items() if m.signs < signs + ROUND and not m.over.done()]:
            if time.monotonic() > deadline:
                break
            before = {member: before[member] for member in late}
            await asyncio.sleep(0.02)
        return {"late": [f"{m.kind} {m.number}: {m.wanting()}" for m in late]}

    async def watch(self, name):
        super().watch(name)
        return {}

    async def unwatch(self, name):
        return super().unwatch(name)

    async def tell(self, kind, word, seconds=60):
        """To all of a kind; answers when all have done it."""
        told = [member.tell(word) for member in self.members if member.kind == kind]
        done, pending = await asyncio.wait(told, timeout=seconds) if told else ((), ())
        return {"done": len(done), "late": len(pending)}

    async def over(self, kind, seconds=60):
        """Until all of a kind have had what they came for."""
        waiting = [member.over for member in self.members if member.kind == kind]
        done, pending = await asyncio.wait(waiting, timeout=seconds) if waiting else ((), ())
        answers = [member.answer for member in self.members if member.kind == kind and member.answer is not None]
        return {"done": len(done), "late": len(pending), "answers": answers}

    async def report(self):
        """So far, with those who are still waiting."""
        now = time.monotonic()
        for member in self.members:
            if member.silent_since() is not None:
                self.note_silence(member.tally, member.silent_since(), now)
        kinds = {kind: tally.told() for kind, tally in sorted(self.tallies.items())}
        longest = max((tally.silence for tally in self.tallies.values()), key=lambda silence: silence.ms, default=None)
        return {
            "kinds": kinds,
            "connections": sum(each["connections"] for each in kinds.values()),
            "operations": sum(each["operations"] for each in kinds.values()),
            "lost": sum(each["lost"] for each in kinds.values()),
            "silence": longest.told() if longest else None,
            "own_lag_ms": round(self.longest_own_lag_ms, 1),
        }

    async def finish(self, seconds=60):
        """Each finishes what is under way; the silent ones speak."""
        for member in self.members:
            if not member.over.done():
                member.stopping = True
                member.finish()
        waiting = [member.over for member in self.members if not member.over.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)
        report = await self.report()
        late = [member for member in self.members if not member.over.done()]
        for member in late:
            member.give_up()
        return await self.report() if late else report


async def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    crowd = Obedient()
    crowd.start(crowd.measure_own_lag())
    while line := await commands.readline():
        command = json.loads(line)
        answer = await getattr(crowd, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)


asyncio.run(main())
