"""A worker on grpc.aio: jobs from a list, so many at a time, each to the pod picked for it.

    pip install trimtab
    TRIMTAB_CONTROL_PLANE=127.0.0.1:18000 python grpc_worker.py 1 2 3 4 5

It calls ``/Orders/Get`` with raw bytes, to need no generated code; stubs take the channel likewise.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import grpc

import trimtab.aio

AT_ONCE = 8


async def main(jobs: list[str]) -> None:
    slots = asyncio.Semaphore(AT_ONCE)
    async with trimtab.aio.insecure_channel("xds:///orders.shop:8080") as channel:
        get = channel.unary_unary("/Orders/Get")

        async def work(job: str) -> bytes:
            async with slots:
                answer: bytes = await get(job.encode(), timeout=5.0, wait_for_ready=True)
                return answer

        done = await asyncio.gather(*(work(job) for job in jobs), return_exceptions=True)
    failed = [problem for problem in done if isinstance(problem, grpc.RpcError)]
    by_pod = Counter(answer.decode() for answer in done if isinstance(answer, bytes))
    for pod, jobs_there in sorted(by_pod.items()):
        print(f"{pod}: {jobs_there} jobs")
    if failed:
        sys.exit(f"{len(failed)} of {len(jobs)} jobs failed; the first: {failed[0]}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
