"""One device's conversation: a word in, effects out; no socket, no database, and the time is an argument."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from fleet.events.names import is_event_name, is_reserved
from gateway import protocol
from gateway.effects import (
    Answer,
    Answered,
    Authenticate,
    Close,
    DeviceEvent,
    Effect,
    Failure,
    Nacked,
    Publish,
    ReportUpdate,
    Say,
    SetUpdatesEnabled,
)
from gateway.fields import Json
from gateway.protocol import ABSENT, Closing
from settings import Settings

HELD_MAX: Final = 64  # words for a device whose welcome is still on its way
OPEN_ASKS_MAX: Final = 64  # calls and reads a device has not answered yet
_NONE: Final[Mapping[str, str]] = {}
PROGRESS_EVERY_S: Final = 1.0  # progress of a download in between is merged into the next


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device may do; seconds and bytes."""

    keep_alive_s: float = 25.0
    hello_timeout_s: float = 10.0
    data_max_bytes: int = 1024
    rate_per_s: float = 1.0
    burst: int = 4

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        return cls(
            keep_alive_s=settings.keep_alive_s,
            hello_timeout_s=settings.hello_timeout_s,
            data_max_bytes=settings.event_data_max_bytes,
            rate_per_s=settings.event_rate_per_s,
            burst=settings.event_burst,
        )


class Bucket:
    """`burst` at once, `rate_per_s` in the long run; begins full."""

    __slots__ = ("_at", "_burst", "_left", "_rate_per_s")

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._left = burst
        self._at = now

    def take(self, now: float) -> float:
        """Take one; 0.0 if there was one, else the seconds until there is and nothing is taken."""
        self._fill(now)
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._rate_per_s if self._rate_per_s > 0 else 3600.0

    def is_full(self, now: float) -> bool:
        self._fill(now)
        return self._left >= self._burst

    def _fill(self, now: float) -> None:
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate_per_s)
        self._at = max(now, self._at)


class Step(Enum):
    CHALLENGED = "the nonce is said, hello is awaited"
    PROVING = "the hello is being checked"
    GREETED = "welcome is said"
    CLOSED = "nothing is heard or said any more"


@dataclass(frozen=True, slots=True)
class _Ask:
    word: protocol.Call | protocol.Read
    deadline: float


class Session:
    """The conversation with one device, from the challenge to the close.

    Every method returns the effects in the order in which they are to happen. Times are seconds of any clock that only goes forward.
    """

    __slots__ = (
        "_asks",
        "_held",
        "_hello_by",
        "_limits",
        "_progress",
        "_sequence",
        "_updates_enabled",
        "_variables",
        "bucket",
        "heard_at",
        "nonce",
        "quarantined",
        "step",
    )

    def __init__(self, limits: Limits, nonce: str, now: float) -> None:
        self._limits = limits
        self.nonce = nonce
        self.step = Step.CHALLENGED
        self.bucket: Bucket | None = None  # full until the first event
        self.quarantined = False
        self.heard_at = now
        self._hello_by = now + limits.hello_timeout_s
        self._variables: Mapping[str, str] = _NONE
        self._held: list[Effect] | None = None
        self._asks: dict[str, _Ask] | None = None
        self._sequence = -1
        self._updates_enabled: bool | None = None  # not said yet: the first word counts whatever it is
        self._progress: tuple[str, str, float] | None = None  # update, state, when it was reported

    # ── the opening ──
    def opening(self) -> list[Effect]:
        return [Say(protocol.Challenge(self.nonce, datetime.now(UTC), self._limits.keep_alive_s))]

    def greeted(self, session_id: str, *, quarantined: bool = False, bucket: Bucket | None = None) -> list[Effect]:
        """The device is who it says; whatever was pushed meanwhile follows the welcome. `bucket`: what it had left before a reconnect."""
        if self.step is not Step.PROVING:
            return []
        limits = self._limits
        self.step = Step.GREETED
        self.quarantined = quarantined
        self.bucket = bucket
        rate = protocol.PublishRate(limits.rate_per_s, limits.burst)
        welcome = protocol.Welcome(session_id, "QUARANTINED" if quarantined else "ACTIVE", limits.data_max_bytes, rate)
        held, self._held = self._held or [], None
        self.nonce = ""  # it has proved what it was there for
        return [Say(welcome), *held]

    def refused(self, code: Closing) -> list[Effect]:
        return self.close(code, "refused")

    # ── what the device says ──
    def hear(self, frame: str, now: float) -> list[Effect]:
        """Whatever the frame, never an exception."""
        if self.step is Step.CLOSED:
            return []
        self.heard_at = now
        cap = protocol.FRAME_MAX_BYTES if self.step is Step.GREETED else protocol.HELLO_FRAME_MAX_BYTES
        if len(frame) > cap or (len(frame) * 4 > cap and len(frame.encode(errors="replace")) > cap):
            return self.close(Closing.TOO_LARGE, f"a frame has at most {cap} bytes")
        try:
            word = protocol.from_device(frame)
        except protocol.ProtocolError as error:
            return self.close(error.code, str(error))
        return [] if word is None else self._heard(word, now)

    def _heard(self, word: protocol.DeviceWord, now: float) -> list[Effect]:
        if isinstance(word, protocol.Hello):
            return self._hello(word)
        if self.step is not Step.GREETED:
            return self.close(Closing.MALFORMED, "hello comes first")
        match word:
            case protocol.Publish():
                return self._publish(word, now)
            case protocol.UpdateStatus():
                return self._update_status(word, now)
            case protocol.UpdatesEnabled():
                return self._set_updates_enabled(word.enabled)
            case protocol.Result():
                return self._result(word)
            case protocol.Vitals():
                return self._vitals(word, now)
            case protocol.Ping():
                return [Say(protocol.Pong(datetime.now(UTC)))]

    def _hello(self, hello: protocol.Hello) -> list[Effect]:
        if self.step is not Step.CHALLENGED:
            return self.close(Closing.MALFORMED, "hello is said once")
        self.step = Step.PROVING
        self._variables = hello.variables or _NONE
        return [Authenticate(hello)]

    def _publish(self, word: protocol.Publish, now: float) -> list[Effect]:
        if self.quarantined:
            return self._nack(word.id, "QUARANTINED")
        if protocol.is_system(word.name):
            return [*self._system(word), Say(protocol.Ack(word.id))]
        if not is_event_name(word.name) or is_reserved(word.name):
            return self._nack(word.id, "BAD_NAME")
        return self._event(DeviceEvent(word.id, word.name, word.data, word.ttl, word.time), now)

    def _vitals(self, word: protocol.Vitals, now: float) -> list[Effect]:
        if self.quarantined:
            return self._nack(word.id, "QUARANTINED")
        data = protocol.json_text(dict(word.measured))
        return self._event(DeviceEvent(word.id, protocol.VITALS_EVENT, data, protocol.TTL_S, None), now)

    def _event(self, event: DeviceEvent, now: float) -> list[Effect]:
        data = event.data or ""
        if len(data) > self._limits.data_max_bytes or len(data.encode()) > self._limits.data_max_bytes:
            return self._nack(event.id, "TOO_LARGE")
        if "\0" in data:  # no database keeps it in a text; a nack, or the device would say it again for ever
            return self._nack(event.id, "BAD_DATA")
        bucket = self.bucket = self.bucket or Bucket(self._limits.rate_per_s, self._limits.burst, now)
        wait = bucket.take(now)
        return self._nack(event.id, "RATE_LIMITED", wait) if wait else [Publish(event)]

    def _nack(self, id: str | None, code: str, retry_after: float | None = None) -> list[Effect]:
        wait = None if retry_after is None else round(retry_after + 0.0005, 3)
        return [Say(protocol.Nack(code, id, wait)), Nacked(code)]

    def _system(self, word: protocol.Publish) -> list[Effect]:
        """What Particle's firmware says of itself: turned into status where we have one, and never stored."""
        if word.name.lower() == protocol.SYSTEM_UPDATES_ENABLED and word.data in ("true", "false"):
            return self._set_updates_enabled(word.data == "true")
        return []

    def _update_status(self, status: protocol.UpdateStatus, now: float) -> list[Effect]:
        before = self._progress
        is_step = before is None or before[:2] != (status.id, status.state) or status.progress == 100
        if before is not None and not is_step and now - before[2] < PROGRESS_EVERY_S:
            return []
        self._progress = (status.id, status.state, now)
        return [ReportUpdate(status)]

    def _set_updates_enabled(self, enabled: bool) -> list[Effect]:
        if enabled == self._updates_enabled:
            return []
        self._updates_enabled = enabled
        return [SetUpdatesEnabled(enabled)]

    def _result(self, result: protocol.Result) -> list[Effect]:
        ask = (self._asks or {}).pop(result.id, None)
        return [] if ask is None else [Answered(self._judge(ask.word, result))]  # None: answered too late, or never asked

    def _judge(self, word: protocol.Call | protocol.Read, result: protocol.Result) -> Answer:
        if result.error is not None:
            return Answer(result.id, failure="DEVICE_ERROR", message=result.error)
        value = result.value
        if value is ABSENT:
            return Answer(result.id, failure="BAD_ANSWER", message="The device answered without a value.")
        kind = "int32" if isinstance(word, protocol.Call) else self._variables.get(word.name)
        if kind is not None and not _IS[kind](value):
            return Answer(result.id, failure="BAD_ANSWER", message=f"The device answered something that is not {kind}.")
        if len(protocol.json_text(value).encode()) > protocol.VALUE_MAX_BYTES:
            return Answer(result.id, failure="BAD_ANSWER", message=f"The value has more than {protocol.VALUE_MAX_BYTES} bytes.")
        return Answer(result.id, value)

    # ── what our side says ──
    def acked(self, id: str | None) -> list[Effect]:
        """That publish is durable."""
        return [] if id is None else self._say(protocol.Ack(id))

    def offer(self, update: protocol.Update) -> list[Effect]:
        """Say it, unless a newer desired state was said already."""
        if update.sequence < self._sequence:
            return []
        self._sequence = update.sequence
        return self._say(update)

    def cancel(self, update_id: str) -> list[Effect]:
        return self._say(protocol.UpdateCanceled(update_id))

    def event(self, name: str, data: str | None) -> list[Effect]:
        return [] if self.quarantined else self._say(protocol.Event(name, data))

    def ask(self, word: protocol.Call | protocol.Read, deadline: float) -> list[Effect]:
        """Said at most once; ends in exactly one Answered with the word's id."""
        if self.step is Step.CLOSED:
            return [Answered(Answer(word.id, failure="DEVICE_OFFLINE"))]
        asks = self._asks = self._asks or {}
        if len(asks) >= OPEN_ASKS_MAX:
            return [Answered(Answer(word.id, failure="TOO_MANY_CALLS"))]
        asks[word.id] = _Ask(word, deadline)
        return self._say(word)

    def standing(self, *, quarantined: bool) -> list[Effect]:
        """A person approved the device, or it lost its place, while it is connected."""
        self.quarantined = quarantined
        return []

    def replaced(self) -> list[Effect]:
        return self.close(Closing.REPLACED, "a newer session of this device")

    def restarting(self) -> list[Effect]:
        return self.close(Closing.RESTARTING, "restarting, come back in 0 to 10 s")

    def close(self, code: Closing, reason: str) -> list[Effect]:
        if self.step is Step.CLOSED:
            return []
        return [Close(code, reason), *self.lost()]

    def lost(self) -> list[Effect]:
        """The socket is gone: whoever still waits for an answer is told."""
        self.step = Step.CLOSED
        self._held = None
        return self._fail_asks(lambda ask: True, "DEVICE_OFFLINE")

    # ── time ──
    def tick(self, now: float, heard_at: float) -> list[Effect]:
        """What falls due by `now`; `heard_at` is when the transport last received anything, a pong too."""
        self.heard_at = max(self.heard_at, heard_at)
        if self.step is Step.CHALLENGED and now >= self._hello_by:
            return self.close(Closing.SILENT, "no hello in time")
        if self.step is not Step.CLOSED and now - self.heard_at >= 2 * self._limits.keep_alive_s:
            return self.close(Closing.SILENT, "not heard for twice the keep-alive")
        return self._fail_asks(lambda ask: now >= ask.deadline, "DEVICE_TIMEOUT")

    def _fail_asks(self, is_over: Callable[[_Ask], bool], failure: Failure) -> list[Effect]:
        over = [id for id, ask in (self._asks or {}).items() if is_over(ask)]
        for id in over:
            assert self._asks is not None
            del self._asks[id]
        return [Answered(Answer(id, failure=failure)) for id in over]

    def _say(self, word: protocol.ServerWord) -> list[Effect]:
        if self.step is Step.CLOSED:
            return []
        if self.step is Step.GREETED:
            return [Say(word)]
        held = self._held = self._held or []
        if len(held) >= HELD_MAX:
            return self.close(Closing.OVERLOADED, "too much to say before the welcome")
        held.append(Say(word))
        return []


def _is_int32(value: Json) -> bool:
    return type(value) is int and protocol.INT32[0] <= value <= protocol.INT32[1]


_IS: Final[dict[str, Callable[[Json], bool]]] = {
    "int32": _is_int32,
    "double": lambda value: type(value) in (int, float),
    "string": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
}
