"""Reads an MCUboot image: its header, the records behind it, and whether its SHA-256 holds."""

import hashlib
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from firmware_formats.content import Content
from firmware_formats.unreadable import Unreadable

MAGIC = 0x96F3B83D

_HEADER = struct.Struct("<IIHHIIBBHI4x")
_AREA = struct.Struct("<HH")  # magic, bytes of the area with this header
_RECORD = struct.Struct("<HH")  # type, bytes of its data
_RECORDS, _PROTECTED_RECORDS = 0x6907, 0x6908
_DIGEST_BYTES = 32
_UUID_BYTES = 16


class Flag(IntFlag):
    ENCRYPTED_AES128 = 0x04
    ENCRYPTED_AES256 = 0x08
    NON_BOOTABLE = 0x10
    COMPRESSED_LZMA1 = 0x200
    COMPRESSED_LZMA2 = 0x400


class Record(IntEnum):
    SHA256 = 0x10
    VENDOR = 0x74
    CLASS = 0x75


@dataclass(frozen=True, slots=True)
class Image:
    """What a sound image says of itself. The UUIDs are None where they are not among its protected records."""

    major: int
    minor: int
    revision: int
    build: int
    flags: int
    size: int  # of header, code and protected records: what the digest covers, in bytes
    sha256: str
    vendor: uuid.UUID | None
    class_id: uuid.UUID | None

    @property
    def version(self) -> str:
        return f"{self.major}.{self.minor}.{self.revision}" + (f"+{self.build}" if self.build else "")

    @property
    def is_bootable(self) -> bool:
        return not self.flags & Flag.NON_BOOTABLE


def class_id(vendor: uuid.UUID, name: str) -> uuid.UUID:
    """The class UUID of a product of this vendor: what `imgtool sign --vid VENDOR --cid NAME` writes for a name that is no UUID."""
    return uuid.uuid5(vendor, name)


def read(content: Content) -> Image:
    """What the image says of itself, once its length and SHA-256 have been checked, in the gate's order.

    Every kind of signature passes unread: whether the key is the right one is for the bootloader to say.
    The work is bounded by the content's size. Raises Unreadable, and nothing else, whatever the bytes.
    Source: firmware formats, "Other formats".
    """
    with memoryview(content) as view:
        if len(view) < _HEADER.size or int.from_bytes(view[:4], "little") != MAGIC:
            raise Unreadable("NOT_A_MODULE", "No MCUboot image was found in this file. Upload the file that imgtool signed.")
        _, _, header_bytes, protected_bytes, code_bytes, flags, major, minor, revision, build = _HEADER.unpack_from(view)
        if header_bytes < _HEADER.size:
            raise Unreadable("NOT_A_MODULE", f"The image's header says it is {header_bytes} bytes long, not 32 or more. Sign it again.")
        _refuse_flags(flags)
        protected, covered = _protected(view, header_bytes + code_bytes, protected_bytes)
        records, end = _area(view, covered, _RECORDS)
        if bytes(view[end:]).strip(b"\xff"):
            raise Unreadable("BAD_LENGTH", f"The image is {end} bytes long and more than padding follows. Upload it as it was signed.")
        digest = _digest(records)
        if hashlib.sha256(view[:covered]).digest() != digest:
            raise Unreadable("BAD_DIGEST", "The SHA-256 behind the image does not fit it: it was changed after signing. Sign it again.")
        vendor, product_class = _uuid(protected, Record.VENDOR), _uuid(protected, Record.CLASS)
        return Image(major, minor, revision, build, flags, covered, digest.hex(), vendor, product_class)


def _protected(view: memoryview, position: int, stated: int) -> tuple[list[tuple[int, bytes]], int]:
    """The records that the digest covers, and where they end; an image may have none."""
    if not stated:
        return [], position
    records, end = _area(view, position, _PROTECTED_RECORDS)
    if end != position + stated:
        raise Unreadable("NOT_A_MODULE", "The image's header and its protected records differ in length. Sign it again.")
    return records, end


def _refuse_flags(flags: int) -> None:
    if flags & (Flag.ENCRYPTED_AES128 | Flag.ENCRYPTED_AES256):
        raise Unreadable("UNSUPPORTED", "The image is encrypted, so what it holds can't be checked. Upload it unencrypted.")
    if flags & (Flag.COMPRESSED_LZMA1 | Flag.COMPRESSED_LZMA2):
        raise Unreadable("UNSUPPORTED", "The image is compressed by LZMA, which is not read here. Upload it uncompressed.")


def _area(view: memoryview, position: int, magic: int) -> tuple[list[tuple[int, bytes]], int]:
    """The records of one area, and where it ends."""
    if position + _AREA.size > len(view):
        raise _cut(position + _AREA.size, len(view))
    found, size = _AREA.unpack_from(view, position)
    if found != magic or size < _AREA.size:
        raise Unreadable("NOT_A_MODULE", f"Where the image's records begin stands {found:04x} and not {magic:04x}. Sign it again.")
    if position + size > len(view):
        raise _cut(position + size, len(view))
    return list(_records(view, position + _AREA.size, position + size)), position + size


def _records(view: memoryview, position: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """At most 64 KiB of them: an area's size has 16 bits, and each record takes four bytes of it."""
    while position < stop:
        if position + _RECORD.size > stop:
            raise Unreadable("NOT_A_MODULE", "A record of the image is cut off. Sign it again.")
        kind, size = _RECORD.unpack_from(view, position)
        position += _RECORD.size
        if position + size > stop:
            raise Unreadable("NOT_A_MODULE", f"A record of the image (type {kind:#x}, {size} bytes) runs out of its area. Sign it again.")
        yield kind, bytes(view[position : position + size])
        position += size


def _digest(records: list[tuple[int, bytes]]) -> bytes:
    found = [data for kind, data in records if kind == Record.SHA256]
    if not found:
        raise Unreadable("UNSUPPORTED", "The image carries no SHA-256. Sign it again with imgtool's default digest.")
    if len(found) > 1 or len(found[0]) != _DIGEST_BYTES:
        raise Unreadable("NOT_A_MODULE", "The image's SHA-256 is not one record of 32 bytes. Sign it again.")
    return found[0]


def _uuid(records: list[tuple[int, bytes]], kind: Record) -> uuid.UUID | None:
    found = [data for each, data in records if each == kind]
    if any(len(data) != _UUID_BYTES for data in found) or len(found) > 1:
        raise Unreadable("NOT_A_MODULE", f"The image's {kind.name.lower()} UUID is not one record of 16 bytes. Sign it again.")
    return uuid.UUID(bytes=found[0]) if found else None


def _cut(needed: int, size: int) -> Unreadable:
    return Unreadable("BAD_LENGTH", f"The image is at least {needed} bytes long, the file has {size}: it was cut. Upload it again.")
