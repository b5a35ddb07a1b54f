"""Doing one thing to many, spread over a time, so that they do not all answer at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

T = TypeVar("T")


async def spread(many: Sequence[T], seconds: float, *, parts: int) -> AsyncIterator[Sequence[T]]:
    """The many in at most so many parts, each when its share of the seconds has passed.

    By the clock, or the pauses of a busy process would add up.
    """
    size = -(-len(many) // parts)
    clock = asyncio.get_running_loop().time
    begun = clock()
    for start in range(0, len(many), size or 1):
        await asyncio.sleep(max(begun + seconds * start / len(many) - clock(), 0.0))
        yield many[start : start + size]
