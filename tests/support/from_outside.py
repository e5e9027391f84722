"""What a test sees of running worker processes from outside: in Redis, which they share, and by their pids."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from pathlib import Path

import orjson
from redis.asyncio import Redis

from promptmill.queue import Queue, keys


async def jobs_held(redis: Redis) -> dict[str, set[str]]:
    """The jobs that are leased, by the name of the worker that has them."""
    held: defaultdict[str, set[str]] = defaultdict(set)
    for job_id, record in (await redis.hgetall(keys.JOBS)).items():
        values = orjson.loads(record)
        if values[0] == "l":
            held[str(values[13]).rsplit(".", 2)[0]].add(job_id.decode())
    return dict(held)


async def pids(queue: Queue) -> dict[str, int]:
    """The processes of the workers that live, by name; a worker that died stays in Redis for a while."""
    told = await queue.redis.hgetall(keys.WORKERS)
    present = {name.decode(): int(orjson.loads(about)["pid"]) for name, about in told.items()}
    return {name: pid for name, pid in present.items() if is_alive(pid)}


async def ended(queue: Queue, run: str) -> int:
    """How many jobs of the run have left Redis with a result."""
    return int(await queue.redis.hget(keys.RUN + run, "succeeded") or 0)


async def kill(queue: Queue, worker: str) -> set[str]:
    """Kill the worker with SIGKILL; the jobs that it held in that moment."""
    pid = (await pids(queue))[worker]
    os.kill(pid, signal.SIGSTOP)
    held = (await jobs_held(queue.redis)).get(worker, set())  # nothing moves any more: its death costs at most these
    os.kill(pid, signal.SIGKILL)
    return held


def is_alive(pid: int) -> bool:
    """Whether this process runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def family(pid: int) -> list[int]:
    """This process and all that descend from it."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children[parent].append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children[one]
    return found
