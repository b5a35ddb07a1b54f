"""What a conversation with a device wants done: the vocabulary between session.py, which decides, and server.py, which acts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gateway import protocol
from gateway.fields import Json
from gateway.protocol import Closing


@dataclass(frozen=True, slots=True)
class Say:
    word: protocol.ServerWord


@dataclass(frozen=True, slots=True)
class Close:
    code: Closing
    reason: str


@dataclass(frozen=True, slots=True)
class Authenticate:
    hello: protocol.Hello


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """A device's event, within every limit. `id` is the device's own; None for vitals it does not follow up."""

    id: str | None
    name: str
    data: str | None
    ttl: int
    device_time: datetime | None


@dataclass(frozen=True, slots=True)
class Publish:
    """Make it durable, then tell the session `acked(event.id)`."""

    event: DeviceEvent


@dataclass(frozen=True, slots=True)
class Nacked:
    """A publish was answered with a nack: to be counted."""

    code: str


@dataclass(frozen=True, slots=True)
class ReportUpdate:
    status: protocol.UpdateStatus


@dataclass(frozen=True, slots=True)
class SetUpdatesEnabled:
    enabled: bool


Failure = Literal["DEVICE_ERROR", "BAD_ANSWER", "DEVICE_OFFLINE", "DEVICE_TIMEOUT", "TOO_MANY_CALLS"]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call or a read ended. `failure` is None and `value` holds, or `failure` says which and `message` how."""

    id: str
    value: Json = None
    failure: Failure | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    answer: Answer


Effect = Say | Close | Authenticate | Publish | Nacked | ReportUpdate | SetUpdatesEnabled | Answered
