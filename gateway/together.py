"""Natural batching: what is asked for while one piece of work is under way is done together in the next."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from models.transaction import detached
from realtime.flusher import REFUSALS
from realtime.log import FAILURES

logger = logging.getLogger(__name__)

AT_MOST = 250  # asked for in one piece of work: as long as the event loop may be kept from everything else
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Together(Generic[Asked, Answer]):
    """Calls `work` with many questions at a time; it answers them in their order, and each answer is handed to `answered`.

    One task for all who ask, no future for each. Of questions with the same `key` the later waits for the next piece of work. What
    fails together is tried one by one, so that nobody pays for another's fault, unless it is the database that is away; what fails
    then is handed to `failed`, and so is an answer that `answered` cannot take. Who comes alone is seen to at once; after a piece of
    work less than a whole one waits `pause_s` for company, where the work itself is over too soon to gather any.
    """

    def __init__(
        self,
        work: Callable[[list[Asked]], Awaitable[Sequence[Answer]]],
        *,
        answered: Callable[[Asked, Answer], None],
        failed: Callable[[Asked, Exception], None],
        key: Callable[[Asked], Hashable] | None = None,
        pause_s: float = 0.0,
        name: str,
    ) -> None:
        self._work = work
        self._answered = answered
        self._failed = failed
        self._key = key
        self._pause_s = pause_s
        self._name = name
        self._waiting: deque[Asked] = deque()
        self.task: asyncio.Task[None] | None = None  # while there is something to do

    def ask(self, asked: Asked) -> None:
        self._waiting.append(asked)
        if self.task is None:
            self.task = detached(self._run(), name=self._name)

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._do(self._next())
                if self._pause_s and len(self._waiting) < AT_MOST:
                    await asyncio.sleep(self._pause_s)
        finally:
            self.task = None

    def _next(self) -> list[Asked]:
        """The next ones in their order, of each key the first."""
        if self._key is None:
            return [self._waiting.popleft() for _ in range(min(AT_MOST, len(self._waiting)))]
        taken: dict[Hashable, Asked] = {}
        later = []
        while self._waiting and len(taken) < AT_MOST:
            each = self._waiting.popleft()
            if each is not taken.setdefault(self._key(each), each):
                later.append(each)
        self._waiting.extendleft(reversed(later))
        return list(taken.values())

    async def _do(self, batch: list[Asked]) -> None:
        try:
            answers = await self._work(batch)
        except Exception as error:
            if len(batch) == 1 or _is_away(error):
                self._fail(batch, error)
                return
            logger.warning("%s: %d failed together and are tried one by one: %s: %s", self._name, len(batch), type(error).__name__, error)
            for each in batch:
                await self._do([each])
        else:
            for each, answer in zip(batch, answers, strict=True):
                try:
                    self._answered(each, answer)
                except Exception as error:
                    self._fail([each], error)

    def _fail(self, batch: list[Asked], error: Exception) -> None:
        trace = None if isinstance(error, FAILURES) else error
        logger.warning("%s: not done for %d: %s: %s", self._name, len(batch), type(error).__name__, error, exc_info=trace)
        for each in batch:
            self._failed(each, error)


def _is_away(error: Exception) -> bool:
    """Whether there is nothing to be had from the database now, whatever is asked."""
    return isinstance(error, FAILURES) and not isinstance(error, REFUSALS)
