"""A device's events until the server has them: sent in order and at the server's pace, sent again until acknowledged."""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Final

from gateway.protocol import Ack, Nack, Publish, PublishRate

OUTBOX_MAX: Final = 1000  # events a device remembers; then the next is refused with OUTBOX_FULL
RESEND_S: Final = 10.0  # without an acknowledgement


@dataclass(slots=True)
class _Waiting:
    event: Publish
    done: "asyncio.Future[str]"
    due: float  # when to say it, or to say it again


class Outbox:
    """Publishes that are not acknowledged yet. The future of each ends with ACKED or the nack's code."""

    def __init__(self, *, keeps_pace: bool = True) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._keeps_pace = keeps_pace
        self._rate = PublishRate(1.0, 4)
        self._tokens = 0.0
        self._filled_at = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, name: str, data: str | None, now: float, *, id: str | None = None) -> "asyncio.Future[str]":
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= OUTBOX_MAX:
            done.set_result("OUTBOX_FULL")
            return done
        event = Publish(id or secrets.token_hex(8), name, data)
        self._waiting[event.id] = _Waiting(event, done, now)
        return done

    def connected(self, rate: PublishRate, now: float) -> None:
        """A new session: everything that is not acknowledged is said again."""
        self._rate, self._tokens, self._filled_at = rate, float(rate.burst), now
        for waiting in self._waiting.values():
            waiting.due = now

    def due(self, now: float) -> list[Publish]:
        """What to say now; counts as said."""
        self._tokens = min(self._rate.burst, self._tokens + (now - self._filled_at) * self._rate.per_second)
        self._filled_at = now
        said: list[Publish] = []
        for waiting in self._waiting.values():
            if waiting.due > now:
                continue
            if self._keeps_pace and self._tokens < 1:
                break
            self._tokens -= 1
            waiting.due = now + RESEND_S
            said.append(waiting.event)
        return said

    def next_due(self, now: float) -> float:
        """Seconds until `due` may have something; infinite if nothing waits."""
        if not self._waiting:
            return float("inf")
        soonest = min(waiting.due for waiting in self._waiting.values()) - now
        pace = max(0.0, (1 - self._tokens) / self._rate.per_second) if self._keeps_pace and self._rate.per_second > 0 else 0.0
        return max(soonest, pace, 0.001)

    def answered(self, answer: Ack | Nack, now: float) -> None:
        waiting = self._waiting.get(answer.id or "")
        if waiting is None:
            return
        if isinstance(answer, Nack) and answer.code == "RATE_LIMITED" and self._keeps_pace:
            waiting.due = now + (answer.retry_after or 1.0)
            return
        del self._waiting[waiting.event.id]
        if not waiting.done.done():
            waiting.done.set_result("ACKED" if isinstance(answer, Ack) else answer.code)
