"""DBOS Transact with asynchronous workflows on a queue."""

import asyncio
import contextvars
import os
import sys

import lines
import sqlalchemy
from dbos import DBOS, DBOSClient

QUEUE = "bench"
VERSION = "bench"


@DBOS.workflow(name="jobs")
async def jobs(offered_at):
    await lines.job(offered_at)


@DBOS.step()
async def nothing():
    pass


@DBOS.step()
async def ask(workflow_id):
    # Without the workflow's context: in it, sending would be a step of the workflow.
    task = asyncio.create_task(answer(workflow_id), context=contextvars.Context())
    answering.add(task)
    task.add_done_callback(answering.discard)


@DBOS.step()
async def third(sent_at):
    lines.began(sent_at)


@DBOS.step()
async def last():
    lines.count()


answering = set()


async def answer(workflow_id):
    await asyncio.sleep(0.05)
    await DBOS.send_async(workflow_id, lines.now(), topic="answer")


@DBOS.workflow(name="stories")
async def stories(_):
    await nothing()
    await ask(DBOS.workflow_id)
    sent_at = await DBOS.recv_async("answer", timeout_seconds=600)
    await third(sent_at)
    await nothing()
    await last()


def launch(url, concurrency):
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "sys_db_pool_size": 20,
            "application_version": VERSION,
            "executor_id": f"bench-{os.getpid()}",
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=concurrency, polling_interval_sec=0.05)


def options(name):
    return {"queue_name": QUEUE, "workflow_name": name, "app_version": VERSION}


def fill(url, name, runs):
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    client = DBOSClient(system_database_engine=engine, application_name="bench")
    for first in range(0, runs, 1000):
        with engine.begin() as connection:
            for _ in range(first, min(runs, first + 1000)):
                client.enqueue_in_transaction(connection, options(name), 0)


async def offer(url, rate, seconds):
    client = DBOSClient(system_database_url=url, system_database_pool_size=16, application_name="bench")

    async def enqueue(offered_at):
        await client.enqueue_async(options("jobs"), offered_at)

    await lines.offer(rate, seconds, enqueue)


async def work(url, concurrency):
    async def start():
        await asyncio.to_thread(launch, url, concurrency)
        await asyncio.Event().wait()

    await lines.work(start)


match [word.replace("postgres://", "postgresql://") for word in sys.argv[1:]]:
    case ["prepare", url]:
        launch(url, 64)
        DBOS.destroy()
    case ["fill", url, name, runs]:
        fill(url, name, int(runs))
    case ["offer", url, rate, seconds]:
        asyncio.run(offer(url, float(rate), float(seconds)))
    case ["work", url, _, concurrency]:
        asyncio.run(work(url, int(concurrency)))
        # Its threads would go on.
        os._exit(0)
    case other:
        raise SystemExit(f"not understood: {other}")
os._exit(0)
