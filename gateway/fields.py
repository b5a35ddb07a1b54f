"""How one field of a word is read: strict and bounded, and whatever is not fit is said so by Unfit and by nothing else."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Union

Json = Union[None, bool, int, float, str, list["Json"], dict[str, "Json"]]  # noqa: UP007 - a quoted member needs Union
DEPTH_MAX: Final = 32  # lists and objects inside each other in a value we keep
NAME_MAX_BYTES: Final = 64  # of events, functions and variables
LISTED_MAX: Final = 64  # functions, and variables, of one device
ERROR_MAX_CHARS: Final = 512
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Unfit(ValueError):
    """The value is not what the field holds; the message goes on from the field's name."""


def text(least: int, most: int) -> Callable[[object], str]:
    """One line of `least` to `most` bytes of UTF-8."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not least <= len(value.encode()) <= most or _CONTROL.search(value):
            raise Unfit(f"must be one line of text, {least} to {most} bytes")
        return value

    return read


def whole(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise Unfit(f"must be a whole number from {least} to {most}")
        return value

    return read


def one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise Unfit(f"must be one of {', '.join(words)}")
        return value

    return read


def matching(pattern: str, what: str) -> Callable[[object], str]:
    """Text of that form, in lower case."""
    form = re.compile(pattern)

    def read(value: object) -> str:
        if not isinstance(value, str) or not form.fullmatch(value):
            raise Unfit(f"must be {what}")
        return value.lower()

    return read


def any_text(value: object) -> str:
    """Text of any length the frame allows; its own rules are answered with a nack, not with a closed socket."""
    if not isinstance(value, str):
        raise Unfit("must be text")
    return value


def prose(value: object) -> str:
    """What went wrong, in the device's words: cut rather than refused."""
    return any_text(value).replace("\0", "\ufffd")[:ERROR_MAX_CHARS]


def yes_or_no(value: object) -> bool:
    if not isinstance(value, bool):
        raise Unfit("must be true or false")
    return value


def decimal(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise Unfit("must be a number, not negative")
    return float(value)


def instant(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(any_text(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unfit("must be a time such as 2026-01-31T12:00:00Z") from None


def device_time(value: object) -> datetime | None:
    """A device's clock is information: one that says nonsense costs the device nothing."""
    try:
        return instant(value)
    except Unfit:
        any_text(value)
        return None


def function_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > LISTED_MAX:
        raise Unfit(f"must be a list of at most {LISTED_MAX} names")
    return tuple(map(text(1, NAME_MAX_BYTES), value))


VARIABLE_TYPES: Final = ("int32", "double", "string", "bool")


def variable_types(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > LISTED_MAX:
        raise Unfit(f"must be an object of at most {LISTED_MAX} names with a type each")
    name, kind = text(1, NAME_MAX_BYTES), one_of(*VARIABLE_TYPES)
    return {name(key): kind(item) for key, item in value.items()}


def small_json(value: object) -> Json:
    """Any JSON value that is not nested without end; how long it may be is the business of whoever keeps it."""
    level: list[object] = [value]
    for _ in range(DEPTH_MAX):
        level = [inner for item in level if isinstance(item, (list, dict)) for inner in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return value  # type: ignore[return-value]  # it came out of the JSON reader
    raise Unfit(f"must not be nested deeper than {DEPTH_MAX}")
