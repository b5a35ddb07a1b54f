"""Global ids: opaque, stable names of rows over the whole server; and rows named by their bare numbers."""

import base64
import binascii

from errors import NotFound

# Kinds whose rows are numbered by 64 bits; the others by 32, and PostgreSQL takes no greater number, not even to find nothing.
WIDE = frozenset({"AuditEntry", "DeviceEvent", "Update"})
DIGITS_MAX = 18  # of a row's key: no table comes near, and it fits 64 bits


def global_id(kind: str, key: object) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{key}".encode()).decode().rstrip("=")


def read_global_id(text: str, *, path: tuple[str, ...] = ("id",)) -> tuple[str, str]:
    """Kind and key. Raises NotFound for what is no id: what nobody gave out names nothing."""
    try:
        kind, separator, key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
    except (binascii.Error, ValueError):
        raise _nothing(path) from None
    if not separator:
        raise _nothing(path)
    return kind, key


def number_of(kind: str, text: str, *, path: tuple[str, ...] = ("id",)) -> int:
    """The key of a global id that must be of this kind. Raises NotFound for another kind's or a damaged one."""
    found, key = read_global_id(text, path=path)
    number = row_key(key) if found == kind else None
    if number is None or number >= 2 ** (63 if kind in WIDE else 31):
        raise _nothing(path)
    return number


def row_key(text: str) -> int | None:
    """The number that a text from outside names a row by; None for what is no such number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX else None


def _nothing(path: tuple[str, ...]) -> NotFound:
    return NotFound("There is no object with this id.", path=path)
