"""The verdicts of an import, packed piece by piece: a million lines are a hundred rows, and a page is found inside them."""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.imports.lines import device_ids, shown
from models.importing import ImportPiece, ImportVerdict
from models.sql import rows

# The byte of a line; 0 is a blank line, which has no verdict. Packed pieces hold these numbers: append only.
CODES: tuple[ImportVerdict | None, ...] = (
    None,
    ImportVerdict.ADDED,
    ImportVerdict.ALREADY_MEMBER,
    ImportVerdict.DUPLICATE_LINE,
    ImportVerdict.INVALID_ID,
    ImportVerdict.CLAIMED_BY_OUTSIDER,
    ImportVerdict.IN_OTHER_PRODUCT,
    ImportVerdict.WRONG_PLATFORM,
)
CODE_OF = {verdict: code for code, verdict in enumerate(CODES)}
# Not refused: what was added, and what the product had already.
WELCOME = (ImportVerdict.ADDED, ImportVerdict.ALREADY_MEMBER)

_HEAD = struct.Struct(">BII")  # version of the packing, lines, bytes of the texts
_VERSION = 1
_FAST = 1  # zlib's level: ids are chance, more work finds no more

Former = Mapping[str, Any]  # what undo needs of a device that was there before: see fleet/imports/verdicts.py


@dataclass(frozen=True, slots=True)
class ImportRow:
    """One line and its verdict. `text` is the line as in the file, cut at 100 characters."""

    line: int
    text: str
    device_id: str | None
    verdict: ImportVerdict


@dataclass(frozen=True, slots=True)
class Judged:
    """A stretch of lines from `first_line` on, one verdict code for each, and the former states of devices that changed."""

    first_line: int
    lines: Sequence[bytes]
    codes: bytes
    formers: Sequence[Former]

    @property
    def counted(self) -> int:
        return len(self.codes) - self.codes.count(0)

    @property
    def added(self) -> int:
        return self.codes.count(CODE_OF[ImportVerdict.ADDED])

    @property
    def rejected(self) -> int:
        return self.counted - sum(self.codes.count(CODE_OF[verdict]) for verdict in WELCOME)

    def rows(self) -> Iterator[ImportRow]:
        for place, (code, line, device_id) in enumerate(zip(self.codes, self.lines, device_ids([*self.lines]), strict=True)):
            verdict = CODES[code]
            if verdict is not None:
                yield ImportRow(self.first_line + place, shown(line), device_id, verdict)


def pack(judged: Judged) -> bytes:
    texts = b"\n".join(judged.lines)
    head = _HEAD.pack(_VERSION, len(judged.codes), len(texts))
    return zlib.compress(head + judged.codes + texts + json.dumps(judged.formers).encode(), _FAST)


def unpack(piece: ImportPiece) -> Judged:
    raw = zlib.decompress(piece.verdicts)
    _, count, size = _HEAD.unpack_from(raw)
    codes, rest = raw[_HEAD.size : _HEAD.size + count], raw[_HEAD.size + count :]
    return Judged(piece.first_line, rest[:size].split(b"\n") if count else [], codes, json.loads(rest[size:]))


async def rows_after(import_id: int, line: int, count: int, *, rejected_only: bool = False) -> list[ImportRow]:
    """The next lines behind `line`, at most `count`; pieces without a rejected line are not even read when only those are asked for."""
    found: list[ImportRow] = []
    sql = "SELECT MAX(first_line) AS first_line FROM import_piece WHERE job_id = $1 AND first_line <= $2"
    begin = (await rows(sql, [import_id, line + 1]))[0]["first_line"] or 0
    wanted = {"rejected__gt": 0} if rejected_only else {"lines__gt": 0}
    while len(found) < count:
        piece = await ImportPiece.filter(job_id=import_id, first_line__gte=begin, **wanted).order_by("first_line").first()
        if piece is None:
            break
        begin = piece.first_line + 1
        found += [row for row in unpack(piece).rows() if row.line > line and not (rejected_only and row.verdict in WELCOME)]
    return found[:count]
