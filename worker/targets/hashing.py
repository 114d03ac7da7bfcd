"""Many targets at once, and what came of them in the order in which they were asked for."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from worker.targets.sources import Sources
from worker.targets.target import Hashed, Target

# Done or not; behind a large file so many small ones may be done before their turn to be told comes.
_TARGETS_AHEAD = 256


async def hash_targets(targets: AsyncIterator[Target], sources: Sources) -> AsyncGenerator[Hashed]:
    """Hash several targets at a time; one that fails does not stop the others.

    To be used within `contextlib.aclosing`: nothing is left running then, wherever it is left.

    Args:
        targets: What to hash.
        sources: How to read it.

    Yields:
        One answer for each target, in their order.

    Raises:
        NoLanesError: There can be no lanes.
    """
    hashing: deque[asyncio.Task[Hashed]] = deque()
    try:
        async for target in targets:
            hashing.append(asyncio.create_task(sources.hash(target)))
            while hashing and (hashing[0].done() or len(hashing) == _TARGETS_AHEAD):
                yield await hashing.popleft()
        while hashing:
            yield await hashing.popleft()
    finally:
        for task in hashing:
            task.cancel()
        await asyncio.gather(*hashing, return_exceptions=True)


async def sizes_of(targets: AsyncIterator[Target], sources: Sources) -> AsyncIterator[int | None]:
    """Tell the targets' sizes in bytes before they are read; None where a size can't be known."""
    async for target in targets:
        yield await sources.size_bytes(target)
