"""Reads an ESP-IDF application image: its segments, its description, and whether checksum, digest and signature sector hold."""

import hashlib
import struct
from dataclasses import dataclass

from firmware_formats.content import Content
from firmware_formats.unreadable import Unreadable

MAGIC = 0xE9
DESCRIPTION_MAGIC = 0xABCD5432
DESCRIPTION_AT = 0x20  # behind the image's header and the first segment's

CHIPS = {
    0: "esp32",
    2: "esp32s2",
    5: "esp32c3",
    9: "esp32s3",
    12: "esp32c2",
    13: "esp32c6",
    16: "esp32h2",
    18: "esp32p4",
    23: "esp32c5",
}

_HEADER = struct.Struct("<BBBBI4xH9xB")  # magic, segments, flash mode and size, entry, chip id, whether a SHA-256 is appended
_SEGMENT = struct.Struct("<II")  # load address, bytes
_DESCRIPTION = struct.Struct("<II8x32s32s16s16s32s32sHH")
_SEGMENTS_MAX = 16
_CHECKSUM_SEED = 0xEF
_BLOCK = 16
_DIGEST_BYTES = 32
_SECTOR = 4096
_SIGNATURE_MAGIC = 0xE7


@dataclass(frozen=True, slots=True)
class Image:
    """What a sound image says of itself; texts end at their first NUL, and may be empty."""

    chip_id: int
    version: str
    project_name: str
    idf_version: str
    built: str  # date and time, as the compiler wrote them
    secure_version: int  # of the anti-rollback counter
    elf_sha256: str
    segments: int
    has_digest: bool
    has_signature_sector: bool

    @property
    def chip(self) -> str | None:
        """The chip it was built for; None for one we don't know."""
        return CHIPS.get(self.chip_id)


def read(content: Content) -> Image:
    """What the image says of itself, once length, checksum and digest have been checked, in the gate's order.

    The work is bounded by the content's size. Raises Unreadable, and nothing else, whatever the bytes.
    Source: firmware formats, "Other formats".
    """
    with memoryview(content) as view:
        if len(view) < DESCRIPTION_AT + _DESCRIPTION.size or view[0] != MAGIC:
            raise Unreadable("NOT_A_MODULE", "No ESP32 application was found in this file. Upload the .bin of the application.")
        if int.from_bytes(view[DESCRIPTION_AT : DESCRIPTION_AT + 4], "little") != DESCRIPTION_MAGIC:
            raise Unreadable("NOT_A_MODULE", "The image describes no application: is it the bootloader? Upload the application.")
        _, segments, _, _, _, chip_id, has_digest = _HEADER.unpack_from(view)
        if not 1 <= segments <= _SEGMENTS_MAX or has_digest > 1:
            raise Unreadable("NOT_A_MODULE", f"The image says {segments} segments; 1 to {_SEGMENTS_MAX} were expected. Build it again.")
        checksum_at, checksum = _walk(view, segments)
        end = checksum_at + 1 + _DIGEST_BYTES * has_digest
        signed = _require_length(view, end)
        _require_integrity(view[:end], checksum_at, checksum, bool(has_digest))
        if signed:
            _require_sound_sector(view)
        return _described(view, chip_id, segments, bool(has_digest), signed)


def _walk(view: memoryview, segments: int) -> tuple[int, int]:
    """Where the checksum stands, and what it should be."""
    position, checksum = _HEADER.size, _CHECKSUM_SEED
    for _ in range(segments):
        if position + _SEGMENT.size > len(view):
            raise _cut(position + _SEGMENT.size, len(view))
        _, size = _SEGMENT.unpack_from(view, position)
        position += _SEGMENT.size
        if position + size > len(view):
            raise _cut(position + size, len(view))
        checksum ^= _xor(view[position : position + size])
        position += size
    return position + _BLOCK - 1 - position % _BLOCK, checksum


def _xor(data: memoryview) -> int:
    """All bytes combined, as one long number folded in halves: a loop over 16 MiB would take seconds."""
    width = 1 << max(0, (len(data) - 1).bit_length())
    number = int.from_bytes(data, "little")
    while width > 1:
        width //= 2
        number = (number >> 8 * width) ^ (number & ((1 << 8 * width) - 1))
    return number


def _require_length(view: memoryview, end: int) -> bool:
    """The image ends the file, or a signature sector does, behind padding up to its boundary; which of the two."""
    if end == len(view):
        return False
    sector_at = -(-end // _SECTOR) * _SECTOR
    if end < len(view) and len(view) == sector_at + _SECTOR and view[sector_at] == _SIGNATURE_MAGIC:
        if bytes(view[end:sector_at]).strip(b"\xff"):
            raise Unreadable("BAD_LENGTH", "Something other than padding stands before the image's signature. Build it again.")
        return True
    if end > len(view):
        raise _cut(end, len(view))
    raise Unreadable("BAD_LENGTH", f"The image is {end} bytes long, the file has {len(view)}: upload it as it was built.")


def _require_integrity(image: memoryview, checksum_at: int, checksum: int, has_digest: bool) -> None:
    found = image[checksum_at]
    if found != checksum:
        raise Unreadable(
            "BAD_CRC", f"The image's checksum says {found:02x}, its bytes give {checksum:02x}: it was damaged. Upload it again."
        )
    if has_digest and hashlib.sha256(image[:-_DIGEST_BYTES]).digest() != image[-_DIGEST_BYTES:]:
        raise Unreadable("BAD_DIGEST", "The SHA-256 behind the image does not fit it: it was changed after linking. Build it again.")


def _require_sound_sector(view: memoryview) -> None:
    """Each block of a Secure Boot v2 sector repeats the digest of what was signed; the signature itself is for the chip to check."""
    signed = hashlib.sha256(view[:-_SECTOR]).digest()
    if view[-_SECTOR + 4 : -_SECTOR + 4 + _DIGEST_BYTES] != signed:
        raise Unreadable("BAD_DIGEST", "The image's signature was made for other bytes. Sign it again.")


def _described(view: memoryview, chip_id: int, segments: int, has_digest: bool, signed: bool) -> Image:
    _, secure_version, version, project, time, date, idf, elf_sha256, _, _ = _DESCRIPTION.unpack_from(view, DESCRIPTION_AT)
    built = f"{_text(date)} {_text(time)}".strip()
    return Image(chip_id, _text(version), _text(project), _text(idf), built, secure_version, elf_sha256.hex(), segments, has_digest, signed)


def _text(raw: bytes) -> str:
    return "".join(c for c in raw.partition(b"\0")[0].decode("utf-8", errors="replace") if c.isprintable())


def _cut(needed: int, size: int) -> Unreadable:
    return Unreadable("BAD_LENGTH", f"The image is at least {needed} bytes long, the file has {size}: it was cut. Upload it again.")
