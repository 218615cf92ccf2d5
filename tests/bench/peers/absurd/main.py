"""absurd with its asynchronous worker."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import lines
from absurd_sdk import AsyncAbsurd

QUEUE = "bench"


def prepare(url):
    environment = {**os.environ, "ABSURD_DATABASE_URL": url}
    for arguments in (["init"], ["create-queue", QUEUE]):
        subprocess.run([Path(sys.executable).with_name("absurdctl"), *arguments], env=environment, check=True)


async def fill(url, work, runs):
    app = AsyncAbsurd(url, queue_name=QUEUE)
    for _ in range(runs):
        await app.spawn(work, {"offered_at": 0}, queue=QUEUE)
    await app.close()


async def offer(url, rate, seconds):
    # A client has one connection, on which calls take turns.
    clients = [AsyncAbsurd(url, queue_name=QUEUE) for _ in range(8)]
    turn = 0

    async def enqueue(offered_at):
        nonlocal turn
        turn += 1
        await clients[turn % len(clients)].spawn("jobs", {"offered_at": offered_at}, queue=QUEUE)

    for client in clients:
        await client.list_queues()
    await lines.offer(rate, seconds, enqueue)
    for client in clients:
        await client.close()


async def work(url, concurrency):
    app = AsyncAbsurd(url, queue_name=QUEUE)
    answers = AsyncAbsurd(url, queue_name=QUEUE)
    await app.list_queues()
    await answers.list_queues()
    answering = set()

    @app.register_task("jobs")
    async def jobs(params, _):
        await lines.job(params["offered_at"])

    async def answer(task_id):
        await asyncio.sleep(0.05)
        await answers.emit_event(f"answer:{task_id}", {"sent_at": lines.now()})

    async def nothing():
        return {}

    @app.register_task("stories")
    async def stories(_, context):
        async def ask():
            task = asyncio.create_task(answer(context.task_id))
            answering.add(task)
            task.add_done_callback(answering.discard)
            return {}

        async def last():
            lines.count()
            return {}

        await context.step("first", nothing)
        await context.step("ask", ask)
        told = await context.await_event(f"answer:{context.task_id}", timeout=600)

        async def third():
            lines.began(told["sent_at"])
            return {}

        await context.step("third", third)
        await context.step("fourth", nothing)
        await context.step("fifth", last)

    await lines.work(lambda: app.start_worker(concurrency=concurrency, poll_interval=0.02))


match sys.argv[1:]:
    case ["prepare", url]:
        prepare(url)
    case ["fill", url, kind, runs]:
        asyncio.run(fill(url, kind, int(runs)))
    case ["offer", url, rate, seconds]:
        asyncio.run(offer(url, float(rate), float(seconds)))
    case ["work", url, _, concurrency]:
        asyncio.run(work(url, int(concurrency)))
        # A worker's tasks may still wait for the database.
        os._exit(0)
    case other:
        raise SystemExit(f"not understood: {other}")
