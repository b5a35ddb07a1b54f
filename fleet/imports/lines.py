"""The lines of an import file: any line ending, any length, any bytes, read in stretches of bounded memory."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 1 << 18
KEPT_BYTES = 400  # of a line: a hundred characters of at most four bytes; no device id is longer
SHOWN_CHARACTERS = 100
SURVEY_LINES = 20_000  # a stretch, when the whole file is read once before the judging
SLOTS_MAX = 1 << 26

_BOM = b"\xef\xbb\xbf"
_CUT = b"\xff"  # stands at the end of a line that was cut: never a part of an id, nor of UTF-8
_HEX = b"0123456789abcdef"
_ID = re.compile(r"[0-9a-f]{24}\Z")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Successive lines without their endings, and the byte behind them, where the next stretch begins."""

    lines: list[bytes]
    next_offset: int
    ended: bool  # nothing follows


def read_stretch(path: Path, offset: int, limit: int) -> Stretch:
    """Up to `limit` lines from byte `offset`. Lines end with LF, CRLF or CR; the last one need not end at all.

    A line is kept up to 400 bytes, so one of ten megabytes costs no memory. Raises FileNotFoundError.
    """
    lines: list[bytes] = []
    begun, cut = b"", 0  # a line whose end is not read yet, and how many of its bytes are no longer there
    with path.open("rb") as file:
        offset += file.seek(len(_BOM) if offset == 0 and file.read(len(_BOM)) == _BOM else offset) - offset
        while True:
            block = file.read(BLOCK_BYTES)
            parts = (begun + block).splitlines(keepends=True)
            begun = b""
            if block and parts and not parts[-1].endswith(b"\n"):  # a CR may have its LF in the next block
                begun = parts.pop()
            taken = parts[: limit - len(lines)]
            if taken:
                offset += cut + sum(map(len, taken))
                cut = 0
            lines += [line if len(line) <= KEPT_BYTES else _kept(line.strip()) for line in b"".join(taken).splitlines()]
            if len(taken) < len(parts) or len(lines) == limit or not block:
                return Stretch(lines, offset, ended=not block and len(taken) == len(parts))
            if len(begun) > KEPT_BYTES:
                kept = _kept(begun.lstrip()) + (b"\r" if begun.endswith(b"\r") else b"")
                cut, begun = cut + len(begun) - len(kept), kept


def _kept(line: bytes) -> bytes:
    return line if len(line) <= KEPT_BYTES else line[: KEPT_BYTES - 1] + _CUT


def stretches(path: Path) -> Iterator[Stretch]:
    """The whole file. Raises FileNotFoundError."""
    stretch = Stretch([], 0, ended=False)
    while not stretch.ended:
        stretch = read_stretch(path, stretch.next_offset, SURVEY_LINES)
        yield stretch


def device_ids(lines: list[bytes]) -> list[str | None]:
    """The id on each line, in lower case; None where there is none, and an empty text for a blank line."""
    joined = b"\n".join(lines).lower()
    if set(map(len, lines)) == {24} and joined.translate(None, _HEX) == b"\n" * (len(lines) - 1):
        return [*joined.decode().split("\n")]  # the file as it should be, without a look at each line
    return [_device_id(line) for line in lines]


def _device_id(line: bytes) -> str | None:
    text = line.decode(errors="replace").strip().lower()
    return text if not text or _ID.match(text) else None


def shown(line: bytes) -> str:
    """The line as people see it again: what is not UTF-8 replaced, cut at 100 characters."""
    return line.decode(errors="replace")[:SHOWN_CHARACTERS]


def count_lines(path: Path) -> int:
    """How many lines are not blank. Raises FileNotFoundError."""
    return sum(sum(each != "" for each in device_ids(stretch.lines)) for stretch in stretches(path))


class FirstSeen:
    """Tells the first line of an id from later ones, exactly, without remembering a million ids.

    The whole file is read once before: two different ids seldom share a slot, so an id alone in its slot stands in one line only,
    and the few others are remembered themselves. The memory is a byte a slot, then only those few.
    """

    def __init__(self, path: Path, total: int, judged: int) -> None:
        """Knows the first `judged` lines already: those of a former run. Raises FileNotFoundError."""
        slots = min(SLOTS_MAX, 1 << (16 * total + 1).bit_length())
        self._mask = slots - 1
        self._shared: set[int] = set()
        self._seen: set[str] = set()
        taken = bytearray(slots)
        for stretch in stretches(path):
            self._note(device_ids(stretch.lines), taken)
        for stretch in stretches(path):
            if judged <= 0:
                break
            self.firsts(device_ids(stretch.lines[:judged]))
            judged -= len(stretch.lines)

    def _note(self, ids: list[str | None], taken: bytearray) -> None:
        mask, shared = self._mask, self._shared
        for each in ids:
            if each:
                slot = hash(each) & mask
                if taken[slot]:
                    shared.add(slot)
                else:
                    taken[slot] = 1

    def firsts(self, ids: list[str | None]) -> list[bool]:
        """For each id whether it is its first line; to be asked once for every stretch, in order."""
        mask, shared = self._mask, self._shared
        return [not each or hash(each) & mask not in shared or self._remember(each) for each in ids]

    def _remember(self, device_id: str) -> bool:
        known = device_id in self._seen
        self._seen.add(device_id)
        return not known
