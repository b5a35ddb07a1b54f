"""A place in the log as clients hold it: opaque text that survives restarts and tells a restored database apart.

Source: reliability, "What a subscriber and a device are promised".
"""

import base64
import re
import struct
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from errors import InvalidInput

_LAYOUT = struct.Struct(">8sqi")  # epoch, position, tag
_TEXT = re.compile(r"[A-Za-z0-9_-]{27}")  # base64url without padding


class Cursor(NamedTuple):
    """`tag` is that of the entry at `position`; 0 where no entry is, which is the place up to which the log was purged."""

    epoch: str  # 16 hexadecimal digits
    position: int
    tag: int

    def __str__(self) -> str:
        return _text(self)


@lru_cache(maxsize=128)  # the last few are said again and again: once for every stream
def _text(cursor: Cursor) -> str:
    packed = _LAYOUT.pack(bytes.fromhex(cursor.epoch), cursor.position, cursor.tag)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def parse(text: str) -> Cursor:
    """The inverse of str(). Raises InvalidInput for anything this server cannot have said."""
    if _TEXT.fullmatch(text):
        epoch, position, tag = _LAYOUT.unpack(base64.urlsafe_b64decode(text + "="))
        cursor = Cursor(epoch.hex(), position, tag)
        if position >= 0 and str(cursor) == text:  # base64 leaves two bits of the last character unused
            return cursor
    raise InvalidInput("This is not a cursor of this server: pass one back exactly as it was received.")


class GapReason(StrEnum):
    RETENTION = "RETENTION"  # what came after the cursor has been purged
    RESTORED = "RESTORED"  # the database was put back to an earlier time; the cursor belongs to what was undone


class Gap(NamedTuple):
    """What a stream says in place of entries it cannot give; it goes on after `to`."""

    reason: GapReason
    after: Cursor
    to: Cursor
