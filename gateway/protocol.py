"""The words a device and the server say to each other, with their limits and close codes: the one place that knows them.

A word is a frozen dataclass; the annotation of each field is the rule it is read by. A field with a default may be absent on the wire.
Unknown types and unknown fields are ignored, so that the protocol can grow; everything else that does not fit is a ProtocolError.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from enum import Enum, IntEnum
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar, get_type_hints

import msgspec

from gateway.fields import (
    NAME_MAX_BYTES,
    Json,
    Unfit,
    any_text,
    decimal,
    device_time,
    function_names,
    instant,
    matching,
    one_of,
    prose,
    small_json,
    text,
    variable_types,
    whole,
    yes_or_no,
)

SUBPROTOCOL: Final = "flotilla.device.v1"
NONCE_BYTES: Final = 32
HELLO_FRAME_MAX_BYTES: Final = 1 << 16  # before the device has proved who it is
FRAME_MAX_BYTES: Final = 1 << 17  # after: the largest event data, every byte of it written as \u00xx, and room
ARGUMENT_MAX_BYTES: Final = 1024
VALUE_MAX_BYTES: Final = 1024  # of a variable, as JSON
INT32: Final = (-(2**31), 2**31 - 1)


class Closing(IntEnum):
    """Why the server ends a socket, as the device reads it."""

    RESTARTING = 1012  # come back after a random 0–10 s
    OVERLOADED = 1013
    TOO_LARGE = 1009
    MALFORMED = 4400
    WRONG_CREDENTIALS = 4401  # the same for an unknown device
    DENIED = 4403
    SILENT = 4408  # no hello in time, or nothing heard for twice the keep-alive
    REPLACED = 4409
    TOO_MANY_CONNECTS = 4429


class ProtocolError(Exception):
    """The peer said something that is not a word of this protocol; `code` closes the socket."""

    def __init__(self, message: str, code: Closing = Closing.MALFORMED) -> None:
        super().__init__(message)
        self.code = code


SYSTEM_PREFIXES: Final = ("particle/", "spark/")
SYSTEM_UPDATES_ENABLED: Final = "particle/device/updates/enabled"
VITALS_EVENT: Final = "device/vitals"
TTL_S: Final = 60


def is_system(name: str) -> bool:
    """An event that Particle's firmware publishes about itself."""
    return name.lower().startswith(SYSTEM_PREFIXES)


class Absent(Enum):
    """Tells a field that was not sent from one that was sent as null."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


Id = Annotated[str, text(1, 128)]
DeviceId = Annotated[str, matching("[0-9A-Fa-f]{24}", "24 hex digits")]
Proof = Annotated[str | None, text(1, 256)]
Label = Annotated[str | None, text(0, 64)]
Error = Annotated[str | None, prose]
Uint16 = Annotated[int | None, whole(0, 65535)]
State = Literal["ACTIVE", "QUARANTINED"]
UpdateState = Literal["DOWNLOADING", "INSTALLING", "FAILED"]


# ── what a device says ──
@dataclass(frozen=True, slots=True)
class Hello:
    device_id: DeviceId
    signature: Proof = None
    mac: Proof = None
    public_key: Proof = None
    provisioning: Proof = None
    product_id: Uint16 = None
    firmware_version: Uint16 = None
    platform: Label = None
    serial_number: Label = None
    functions: Annotated[tuple[str, ...], function_names] = ()
    variables: Annotated[Mapping[str, str] | None, variable_types] = None
    resume: Annotated[str | None, text(0, 128)] = None
    claim_code: Annotated[str | None, text(0, 128)] = None


@dataclass(frozen=True, slots=True)
class Publish:
    id: Id
    name: Annotated[str, any_text]
    data: Annotated[str | None, any_text] = None
    ttl: Annotated[int, whole(0, 2**31 - 1)] = TTL_S
    time: Annotated[datetime | None, device_time] = None


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    id: Id
    state: Annotated[UpdateState, one_of("DOWNLOADING", "INSTALLING", "FAILED")]
    progress: Annotated[int | None, whole(0, 100)] = None
    error: Error = None


@dataclass(frozen=True, slots=True)
class UpdatesEnabled:
    enabled: Annotated[bool, yes_or_no]


@dataclass(frozen=True, slots=True)
class Result:
    """Answer to a call or a read: a value, which may be null, or an error."""

    id: Id
    value: Annotated[Json | Absent, small_json] = ABSENT
    error: Error = None


@dataclass(frozen=True, slots=True)
class Vitals:
    """Whatever the device measures of itself; an id, if it wants to be told that it was kept."""

    measured: Mapping[str, Json]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    pass


# ── what the server says ──
@dataclass(frozen=True, slots=True)
class Challenge:
    nonce: Annotated[str, text(1, 128)]
    server_time: Annotated[datetime, instant]
    keep_alive: Annotated[float, decimal]


@dataclass(frozen=True, slots=True)
class PublishRate:
    per_second: Annotated[float, decimal]
    burst: Annotated[int, whole(0, 2**31 - 1)]


def publish_rate(value: object) -> PublishRate:
    if not isinstance(value, dict):
        raise Unfit("must be an object")
    return _read_fields(PublishRate, value)


@dataclass(frozen=True, slots=True)
class Welcome:
    session_id: Annotated[str, text(1, 128)]
    state: Annotated[State, one_of("ACTIVE", "QUARANTINED")]
    max_payload: Annotated[int, whole(0, 2**31 - 1)]
    publish_rate: Annotated[PublishRate, publish_rate]


@dataclass(frozen=True, slots=True)
class Ack:
    id: Id


@dataclass(frozen=True, slots=True)
class Nack:
    """`code` is RATE_LIMITED, TOO_LARGE, BAD_NAME, BAD_DATA or QUARANTINED; `retry_after` is in seconds. No id: vitals without one."""

    code: Annotated[str, text(1, 64)]
    id: Annotated[str | None, text(1, 128)] = None
    retry_after: Annotated[float | None, decimal] = None


@dataclass(frozen=True, slots=True)
class Update:
    id: Id
    sequence: Annotated[int, whole(0, 2**63 - 1)]
    version: Annotated[int, whole(0, 65535)]
    url: Annotated[str, text(1, 4096)]
    size: Annotated[int, whole(0, 2**40)]
    sha256: Annotated[str, matching("[0-9a-f]{64}", "64 hex digits")]
    signature: Annotated[str | None, text(1, 256)] = None  # the maker's, over what firmware_formats/signing.py says
    expires_at: Annotated[datetime | None, instant] = None
    force: Annotated[bool | None, yes_or_no] = None  # true: also for a device that has said it puts updates off


@dataclass(frozen=True, slots=True)
class UpdateCanceled:
    id: Id


@dataclass(frozen=True, slots=True)
class Call:
    id: Id
    name: Annotated[str, text(1, NAME_MAX_BYTES)]
    argument: Annotated[str, any_text] = ""
    timeout_seconds: Annotated[float, decimal] = 10.0


@dataclass(frozen=True, slots=True)
class Read:
    id: Id
    name: Annotated[str, text(1, NAME_MAX_BYTES)]


@dataclass(frozen=True, slots=True)
class Event:
    name: Annotated[str, any_text]
    data: Annotated[str | None, any_text] = None


@dataclass(frozen=True, slots=True)
class Pong:
    server_time: Annotated[datetime, instant]


DeviceWord = Hello | Publish | UpdateStatus | UpdatesEnabled | Result | Vitals | Ping
ServerWord = Challenge | Welcome | Ack | Nack | Update | UpdateCanceled | Call | Read | Event | Pong
DEVICE_WORDS: Final = (Hello, Publish, UpdateStatus, UpdatesEnabled, Result, Vitals, Ping)
SERVER_WORDS: Final = (Challenge, Welcome, Ack, Nack, Update, UpdateCanceled, Call, Read, Event, Pong)


# ── reading and writing a frame ──
def from_device(frame: str) -> DeviceWord | None:
    """The word in `frame`, None for a type this version does not know. Raises ProtocolError, and nothing else, whatever the frame."""
    return _word(frame, _FROM_DEVICE)


def from_server(frame: str) -> ServerWord | None:
    """As `from_device`, for the other direction."""
    return _word(frame, _FROM_SERVER)


def encode(word: DeviceWord | ServerWord) -> str:
    """The frame that says `word`: `type` first, what is None left out."""
    said: dict[str, object] = {"type": _TYPES[type(word)]}
    if isinstance(word, Vitals):
        said |= {"id": word.id} if word.id is not None else {}
        said |= {name: value for name, value in word.measured.items() if name not in said}
    else:
        said |= _plain(word)
    return _TO_JSON.encode(said) if type(word) in DEVICE_WORDS else msgspec.json.encode(said).decode()


def json_text(value: Json) -> str:
    """`value` as it is kept and measured."""
    return _TO_JSON.encode(value)


_TO_JSON: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


W = TypeVar("W")
_WORDS: Final[tuple[type, ...]] = (*DEVICE_WORDS, *SERVER_WORDS)
_TYPES: Final = {word: word.__name__[0].lower() + word.__name__[1:] for word in _WORDS}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(map(str.capitalize, rest))


def _rules(word: type) -> tuple[tuple[str, str, Callable[[object], object], bool], ...]:
    """Name here, name on the wire, how it is read, whether it must be there."""
    hints = get_type_hints(word, include_extras=True)
    return tuple((f.name, _camel(f.name), hints[f.name].__metadata__[0], f.default is MISSING) for f in fields(word))


_RULES: Final = {word: _rules(word) for word in (*_WORDS, PublishRate) if word is not Vitals}


def _read_fields(word: type[W], said: Mapping[str, Any]) -> W:
    found: dict[str, object] = {}
    for name, wire_name, read, needed in _RULES[word]:
        value = said.get(wire_name, ABSENT)
        if value is ABSENT or (value is None and read is not small_json):
            if needed:
                raise ProtocolError(f"{wire_name} is missing")
            continue
        try:
            found[name] = read(value)
        except Unfit as error:
            raise ProtocolError(f"{wire_name} {error}") from None
    return word(**found)


def _read_vitals(said: dict[str, Any]) -> Vitals:
    id = said.get("id")
    measured = {name: value for name, value in said.items() if name not in ("type", "id")}
    try:
        small_json(measured)
        return Vitals(measured, None if id is None else text(1, 128)(id))
    except Unfit as error:
        raise ProtocolError(f"vitals {error}") from None


def _reader(word: type[W]) -> Callable[[dict[str, Any]], W]:
    return lambda said: _read_fields(word, said)


_FROM_DEVICE: Final[dict[str, Callable[[dict[str, Any]], DeviceWord]]] = {
    _TYPES[word]: _read_vitals if word is Vitals else _reader(word) for word in DEVICE_WORDS
}
_FROM_SERVER: Final[dict[str, Callable[[dict[str, Any]], ServerWord]]] = {_TYPES[word]: _reader(word) for word in SERVER_WORDS}


def _word(frame: str, words: Mapping[str, Callable[[dict[str, Any]], W]]) -> W | None:
    said = _object(frame)
    kind = said.get("type")
    if not isinstance(kind, str):
        raise ProtocolError("type is missing")
    read = words.get(kind)
    return None if read is None else read(said)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("beyond a double")
    return number


_JSON: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _object(frame: str) -> dict[str, Any]:
    try:
        said = _JSON.decode(frame)
        if "\\u" in frame or not frame.isascii():  # a lone surrogate is text that nobody can store: the decoder lets it through
            json.dumps(said, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # broken JSON, numbers of 100,000 digits, endless nesting, surrogates
        raise ProtocolError("not a JSON text") from None
    if not isinstance(said, dict):
        raise ProtocolError("not a JSON object")
    return said


def _plain(word: object) -> dict[str, object]:
    said: dict[str, object] = {}
    for name, wire_name, read, _ in _RULES[type(word)]:
        value = getattr(word, name)
        if value is ABSENT or (value is None and read is not small_json):
            continue
        write = _WRITTEN.get(read)
        said[wire_name] = value if write is None else write(value)
    return said


def _written_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# What is not JSON as it is, by how it is read.
_WRITTEN: Final[dict[object, Callable[[Any], object]]] = {
    instant: _written_time, device_time: _written_time, publish_rate: _plain, function_names: list,
}  # fmt: skip
