"""What a conversation with a device wants done: the vocabulary between session.py, which decides, and server.py, which acts."""

from datetime import datetime
from typing import Literal

import msgspec

from gateway import protocol
from gateway.fields import Json
from gateway.protocol import Closing


class Say(msgspec.Struct, frozen=True):
    word: protocol.ServerWord


class Close(msgspec.Struct, frozen=True):
    code: Closing
    reason: str


class Authenticate(msgspec.Struct, frozen=True):
    hello: protocol.Hello


class DeviceEvent(msgspec.Struct, frozen=True):
    """A device's event, within every limit. `id` is the device's own; None for vitals it does not follow up."""

    id: str | None
    name: str
    data: str | None
    ttl: int
    device_time: datetime | None


class Publish(msgspec.Struct, frozen=True):
    """Make it durable, then tell the session `acked(event.id)`."""

    event: DeviceEvent


class Nacked(msgspec.Struct, frozen=True):
    """A publish was answered with a nack: to be counted."""

    code: str


class ReportUpdate(msgspec.Struct, frozen=True):
    status: protocol.UpdateStatus


class SetUpdatesEnabled(msgspec.Struct, frozen=True):
    enabled: bool


Failure = Literal["DEVICE_ERROR", "BAD_ANSWER", "DEVICE_OFFLINE", "DEVICE_TIMEOUT", "TOO_MANY_CALLS"]


class Answer(msgspec.Struct, frozen=True):
    """How a call or a read ended. `failure` is None and `value` holds, or `failure` says which and `message` how."""

    id: str
    value: Json = None
    failure: Failure | None = None
    message: str = ""


class Answered(msgspec.Struct, frozen=True):
    answer: Answer


Effect = Say | Close | Authenticate | Publish | Nacked | ReportUpdate | SetUpdatesEnabled | Answered
