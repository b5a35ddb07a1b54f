"""How events may be called, whoever publishes them."""

import re
from typing import Final

from errors import InvalidInput

RESERVED_PREFIXES: Final = ("particle", "spark", "flotilla")

_EVENT_NAME = re.compile(r"[A-Za-z0-9_\-/]{1,64}")


def is_event_name(name: str) -> bool:
    """Whether `name` is spelled as an event's name may be; whether its prefix is reserved is another question."""
    return _EVENT_NAME.fullmatch(name) is not None


def is_reserved(name: str) -> bool:
    return name.lower().startswith(RESERVED_PREFIXES)


def require_event_name(name: str, *, path: tuple[str, ...]) -> str:
    """Raises InvalidInput unless an event may be called so. Source: vocabulary, "Events, functions, limits"."""
    if not is_event_name(name):
        raise InvalidInput("An event's name is 1 to 64 characters of A-Z a-z 0-9 _ - /.", path=path)
    if is_reserved(name):
        raise InvalidInput(f"Names beginning with {', '.join(RESERVED_PREFIXES)} are the server's own.", path=path)
    return name
