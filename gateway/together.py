"""Natural batching: what is asked for while one piece of work is under way is done together in the next."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from models.transaction import detached
from realtime.flusher import REFUSALS
from realtime.log import FAILURES

logger = logging.getLogger(__name__)

AT_MOST = 250  # asked for in one piece of work: as long as the event loop may be kept from everything else
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class _Waiting(NamedTuple, Generic[Asked, Answer]):
    asked: Asked
    answer: "asyncio.Future[Answer]"


class Together(Generic[Asked, Answer]):
    """Calls `work` with many questions at a time; it answers them in their order.

    Of questions with the same `key` the later waits for the next piece of work. What fails together is tried one by one, so that
    nobody pays for another's fault, unless it is the database that is away. Whoever asks may be cancelled: the work is done all the
    same, and `unclaimed` is told its answer.
    """

    def __init__(
        self,
        work: Callable[[list[Asked]], Awaitable[Sequence[Answer]]],
        *,
        key: Callable[[Asked], Hashable],
        name: str,
        unclaimed: Callable[[Asked, Answer], None] = lambda asked, answer: None,
    ) -> None:
        self._work = work
        self._key = key
        self._name = name
        self._unclaimed = unclaimed
        self._waiting: deque[_Waiting[Asked, Answer]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, asked: Asked) -> Answer:
        """Raises what `work` raises for this question."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(asked, answer))
        if self._task is None:
            self._task = detached(self._run(), name=self._name)
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._do(self._next())
        finally:
            self._task = None

    def _next(self) -> list[_Waiting[Asked, Answer]]:
        """The next ones in their order, of each key the first."""
        taken: dict[Hashable, _Waiting[Asked, Answer]] = {}
        later = []
        while self._waiting and len(taken) < AT_MOST:
            each = self._waiting.popleft()
            if each is not taken.setdefault(self._key(each.asked), each):
                later.append(each)
        self._waiting.extendleft(reversed(later))
        return list(taken.values())

    async def _do(self, batch: list[_Waiting[Asked, Answer]]) -> None:
        try:
            answers = await self._work([each.asked for each in batch])
        except Exception as error:
            if len(batch) == 1 or _is_away(error):
                _fail(batch, error)
                return
            logger.warning("%s: %d failed together and are tried one by one: %s: %s", self._name, len(batch), type(error).__name__, error)
            for each in batch:
                await self._do([each])
        else:
            for each, answer in zip(batch, answers, strict=True):
                if each.answer.done():
                    self._unclaimed(each.asked, answer)
                else:
                    each.answer.set_result(answer)


def _is_away(error: Exception) -> bool:
    """Whether there is nothing to be had from the database now, whatever is asked."""
    return isinstance(error, FAILURES) and not isinstance(error, REFUSALS)


def _fail(batch: list[_Waiting[Asked, Answer]], error: Exception) -> None:
    for each in batch:
        if not each.answer.done():
            each.answer.set_exception(error)
