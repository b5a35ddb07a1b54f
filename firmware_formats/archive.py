"""Reads a zip from outside: every name, size and place in it is a claim, and nothing is believed that was not counted."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise

from firmware_formats.unreadable import Unreadable

ENTRIES_MAX = 256

_END = struct.Struct("<4s4H2IH")
_END_MAGIC = b"PK\x05\x06"
_COMMENT_MAX = 0xFFFF
_CENTRAL = struct.Struct("<4sBB5H3I5H2I")
_CENTRAL_MAGIC = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\x03\x04"
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x01 | 0x40 | 0x2000  # traditional, strong, and a masked directory
_BY_DOS = 0  # everybody else keeps the file's mode in the upper half of the attributes
_FILE_TYPE, _REGULAR, _FOLDER = 0o170000, 0o100000, 0o040000
_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class Entry:
    """One file in the archive, as its directory describes it; `data_at` is where its bytes stand in the archive."""

    name: str
    method: int
    crc32: int
    packed_bytes: int
    size: int
    data_at: int


class Archive:
    """The files of a zip, and how much of the budget for unpacking them is left.

    `unpacked_max` is in bytes, over all entries together. Folders have no content and are left out.
    Raises Unreadable, and nothing else, whatever the bytes.
    """

    def __init__(self, view: memoryview, *, unpacked_max: int) -> None:
        self._view = view
        self._unpacked_max = self._left = unpacked_max
        self.entries = {entry.name: entry for entry in _sound_entries(view)}

    def content(self, entry: Entry) -> bytes:
        """The entry's bytes, unpacked; the directory's size and checksum must hold."""
        return b"".join(self.pieces(entry))

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """The same, one piece after the other, for content that need not lie in memory as a whole."""
        crc32 = size = 0
        for piece in self._unpacked(entry):
            size, self._left = size + len(piece), self._left - len(piece)
            if self._left < 0:
                raise Unreadable(
                    "TOO_LARGE",
                    f"The archive unpacks to more than {self._unpacked_max} bytes. Make it smaller.",
                )

            if size > entry.size:
                raise _of_another_size(entry)
            crc32 = zlib.crc32(piece, crc32)
            yield piece
        if size < entry.size:
            raise _of_another_size(entry)
        if crc32 != entry.crc32:
            raise Unreadable("BAD_CRC", f"The entry {entry.name} was damaged: its checksum does not fit. Upload the archive again.")

    def _unpacked(self, entry: Entry) -> Iterator[bytes]:
        packed = self._view[entry.data_at : entry.data_at + entry.packed_bytes]
        if entry.method == _STORED:
            yield from (bytes(packed[at : at + _PIECE]) for at in range(0, len(packed), _PIECE))
            return
        inflate, waiting = zlib.decompressobj(wbits=-15), bytes(packed)
        try:
            # One byte more than there is budget for: whoever counts sees that it was too much.
            while piece := inflate.decompress(waiting, min(_PIECE, self._left + 1)):
                yield piece
                waiting = inflate.unconsumed_tail
        except zlib.error:
            raise _damaged(entry) from None
        if not inflate.eof or inflate.unused_data:
            raise _damaged(entry)


def names(view: memoryview) -> list[bytes]:
    """The names in the directory as far as it is sound, at most as many as are taken: enough to tell what kind of archive it is.

    Of an archive that was cut, which has no directory, the first entry's own header still says how it is called.
    """
    found: list[bytes] = []
    with suppress(Unreadable):
        for raw, _ in islice(_directory(view), ENTRIES_MAX):
            found.append(raw)
    return found or _first_name(view)


def _first_name(view: memoryview) -> list[bytes]:
    if len(view) < _LOCAL.size or bytes(view[:4]) != _LOCAL_MAGIC:
        return []
    name_bytes = _LOCAL.unpack_from(view)[-2]
    return [bytes(view[_LOCAL.size : _LOCAL.size + name_bytes])]


# ── the directory ──
def _sound_entries(view: memoryview) -> list[Entry]:
    found: list[Entry] = []
    seen: set[str] = set()
    taken: list[tuple[int, int]] = []
    for number, (raw, fields) in enumerate(_directory(view)):
        name = _safe_name(raw)
        if number == ENTRIES_MAX:
            raise Unreadable("UNSUPPORTED", f"The archive has more than {ENTRIES_MAX} entries. Leave some out.")
        if name in seen:
            raise Unreadable("UNSUPPORTED", f"The archive holds {name} twice. Make it anew, each name once.")
        seen.add(name)
        entry, local_at = _sound_entry(view, name, raw, fields)
        taken.append((local_at, entry.data_at + entry.packed_bytes))
        if not name.endswith("/"):
            found.append(entry)
    _require_apart(taken)
    return found


def _sound_entry(view: memoryview, name: str, raw: bytes, fields: tuple[int, ...]) -> tuple[Entry, int]:
    """The entry, and where its own header stands."""
    _, _, made_by, _, flags, method, _, _, crc32, packed, size, _, _, _, _, _, attributes, local_at = fields
    if flags & _ENCRYPTED:
        raise Unreadable("UNSUPPORTED", f"The entry {name} is encrypted, so it can't be checked. Make the archive without a password.")
    if made_by != _BY_DOS and (attributes >> 16) & _FILE_TYPE not in (0, _REGULAR, _FOLDER):
        raise Unreadable("UNSUPPORTED", f"The entry {name} is a link or a device. An archive of firmware holds files only.")
    if method not in (_STORED, _DEFLATED):
        raise Unreadable("UNSUPPORTED", f"The entry {name} is packed by method {method}; only 0 and 8 (deflate) are known. Make it anew.")
    entry = Entry(name, method, crc32, packed, size, _data_at(view, local_at, raw))
    if entry.data_at + packed > len(view) or (method == _STORED and packed != size):
        raise _damaged(entry)
    return entry, local_at


def _directory(view: memoryview) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    """The raw name and the fields of each entry."""
    end_at = _end_at(view)
    _, disk, directory_disk, here, count, _, position, _ = _END.unpack_from(view, end_at)
    if disk or directory_disk or here != count:
        raise Unreadable("UNSUPPORTED", "The archive goes over several files. Make it anew as one.")
    for _ in range(count):
        if position + _CENTRAL.size > end_at or bytes(view[position : position + 4]) != _CENTRAL_MAGIC:
            raise Unreadable("UNSUPPORTED", "The archive's directory is damaged. Make it anew.")
        fields = _CENTRAL.unpack_from(view, position)
        name_bytes, extra_bytes, comment_bytes = fields[11:14]
        name_at = position + _CENTRAL.size
        position = name_at + name_bytes + extra_bytes + comment_bytes
        yield bytes(view[name_at : name_at + name_bytes]), fields
    if position != end_at:
        raise Unreadable("UNSUPPORTED", "The archive's directory does not end where it says. Make it anew.")


def _end_at(view: memoryview) -> int:
    """Where the record stands that ends the archive; nothing but its own comment may follow."""
    tail_at = max(0, len(view) - _COMMENT_MAX - _END.size)
    tail = bytes(view[tail_at:])
    at = tail.rfind(_END_MAGIC)
    if at < 0 or at + _END.size > len(tail):
        raise Unreadable("BAD_LENGTH", "The archive has no end: it was cut. Upload it again.")
    if at + _END.size + _END.unpack_from(tail, at)[-1] != len(tail):
        raise Unreadable("BAD_LENGTH", "Bytes follow the end of the archive: it was padded or cut. Upload it again.")
    return tail_at + at


def _data_at(view: memoryview, local_at: int, raw: bytes) -> int:
    """Behind the entry's own header, which must be there and give it the same name as the directory."""
    if local_at + _LOCAL.size > len(view):
        raise Unreadable("UNSUPPORTED", "An entry of the archive lies outside of it. Make it anew.")
    magic, *_, name_bytes, extra_bytes = _LOCAL.unpack_from(view, local_at)
    name_at = local_at + _LOCAL.size
    if magic != _LOCAL_MAGIC or bytes(view[name_at : name_at + name_bytes]) != raw:
        raise Unreadable("UNSUPPORTED", "An entry of the archive and its directory name different files. Make it anew.")
    return int(name_at + name_bytes + extra_bytes)


def _require_apart(taken: list[tuple[int, int]]) -> None:
    """No two entries share bytes: that is how a small archive becomes a large one."""
    taken.sort()
    if any(end > start for (_, end), (start, _) in pairwise(taken)):
        raise Unreadable("UNSUPPORTED", "Entries of the archive overlap. Make it anew.")


def _safe_name(raw: bytes) -> str:
    name = raw.decode("utf-8", errors="replace")
    parts = name.removesuffix("/").split("/")
    if not name.isprintable() or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise Unreadable("UNSUPPORTED", f"The archive holds {name[:80]!a}, which is no plain path inside of it. Make it anew.")
    return name


def _of_another_size(entry: Entry) -> Unreadable:
    return Unreadable("BAD_LENGTH", f"The entry {entry.name} does not unpack to the {entry.size} bytes that are stated. Make it anew.")


def _damaged(entry: Entry) -> Unreadable:
    return Unreadable("UNSUPPORTED", f"The entry {entry.name} can't be unpacked. Make the archive anew.")
