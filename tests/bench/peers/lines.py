"""The lines that a contestant's process speaks (src/peers/mod.rs), for engines in Python."""

import asyncio
import sys
import time

handled = 0
_latencies = []


def now():
    """Microseconds since 1970."""
    return time.time_ns() // 1000


async def job(offered_at):
    """The handler of every engine's job."""
    if offered_at > 0:
        began(offered_at)
        await asyncio.sleep(0.001)
    count()


def began(asked_at):
    """What was asked for at that microsecond has begun."""
    _latencies.append((now() - asked_at) / 1000)


def count():
    """A run is over."""
    global handled
    handled += 1


async def offer(rate, seconds, enqueue):
    """Calls `enqueue(offered_at)` when a job is due, whether or not the earlier ones have been enqueued yet."""
    total = int(rate * seconds)
    under_way = set()
    began = time.monotonic()
    offered = 0
    while offered < total:
        await asyncio.sleep(0.001)
        due = min(int((time.monotonic() - began) * rate), total)
        for _ in range(offered, due):
            task = asyncio.create_task(enqueue(now()))
            under_way.add(task)
            task.add_done_callback(_ended(under_way))
        offered = due
    await asyncio.gather(*under_way)
    print(f"offered {total} {time.monotonic() - began}", flush=True)


def _ended(under_way):
    def ended(task):
        if task.exception() is None:
            under_way.discard(task)

    return ended


async def work(start):
    """Says that it is ready, waits to be told to go, and runs `start()` until its input ends."""
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    if (await loop.run_in_executor(None, sys.stdin.readline)).strip() != "go":
        raise SystemExit("expected go")
    working = asyncio.ensure_future(start())
    ended = loop.run_in_executor(None, sys.stdin.read)
    told = 0
    while not ended.done():
        if working.done():
            working.result()
        await asyncio.sleep(0.02)
        if handled != told:
            told = handled
            print(f"handled {told}", flush=True)
    _latencies.sort()
    shares = [_latencies[int((len(_latencies) - 1) * share)] if _latencies else "nan" for share in (0.5, 0.95, 0.99)]
    print("latency", *shares, flush=True)
