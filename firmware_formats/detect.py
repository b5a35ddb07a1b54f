"""Tells a firmware file's kind from its content alone; a name or a content type from outside is never asked."""

import struct
from collections.abc import Iterator
from enum import StrEnum

from firmware_formats.particle import Content, find_prefix


class Kind(StrEnum):
    BUNDLE = "BUNDLE"  # Particle application with its assets, a zip
    FWUP = "FWUP"
    MCUBOOT = "MCUBOOT"
    ESP32 = "ESP32"
    UF2 = "UF2"
    PARTICLE = "PARTICLE"
    OPAQUE = "OPAQUE"


KIND_NAMES = {
    Kind.BUNDLE: "a Particle bundle (zip)",
    Kind.FWUP: "a fwup archive",
    Kind.MCUBOOT: "an MCUboot image",
    Kind.ESP32: "an ESP32 application",
    Kind.UF2: "a UF2 file",
    Kind.PARTICLE: "a Particle module",
    Kind.OPAQUE: "a file of no known format",
}

_ZIP = b"PK\x03\x04"
_ZIP_END = struct.Struct("<4s4H2IH")
_ZIP_END_MAGIC = b"PK\x05\x06"
_ZIP_ENTRY = struct.Struct("<4s6H3I5H2I")
_ZIP_ENTRY_MAGIC = b"PK\x01\x02"
_ZIP_COMMENT_MAX = 0xFFFF
_ZIP_ENTRIES_MAX = 256
_MCUBOOT = 0x96F3B83D
_ESP32_IMAGE = 0xE9
_ESP32_DESCRIPTION = 0xABCD5432  # at 0x20, behind the image's and the first segment's header
_UF2 = 0x0A324655


def kind_of(content: Content) -> Kind:
    """The first kind that fits; OPAQUE if none does. Reads a bounded part of the content and never raises."""
    if content[:4] == _ZIP:
        return _kind_of_zip(content)
    if _u32(content, 0) == _MCUBOOT:
        return Kind.MCUBOOT
    if content[:1] == bytes([_ESP32_IMAGE]) and _u32(content, 0x20) == _ESP32_DESCRIPTION:
        return Kind.ESP32
    if _u32(content, 0) == _UF2:
        return Kind.UF2
    return Kind.PARTICLE if find_prefix(content) else Kind.OPAQUE


def _u32(content: Content, offset: int) -> int | None:
    if len(content) < offset + 4:
        return None
    return int.from_bytes(content[offset : offset + 4], "little")


def _kind_of_zip(content: Content) -> Kind:
    names = list(_zip_names(content))
    if any(name.endswith(b".bin") and b"/" not in name for name in names):
        return Kind.BUNDLE
    return Kind.FWUP if b"meta.conf" in names else Kind.OPAQUE


def _zip_names(content: Content) -> Iterator[bytes]:
    """Names in the central directory; stops without a word where it is broken, and after as many as a bundle may have."""
    tail_at = max(0, len(content) - _ZIP_COMMENT_MAX - _ZIP_END.size)
    end_at = bytes(content[tail_at:]).rfind(_ZIP_END_MAGIC)
    if end_at < 0 or tail_at + end_at + _ZIP_END.size > len(content):
        return
    position = _ZIP_END.unpack_from(content, tail_at + end_at)[6]
    for _ in range(_ZIP_ENTRIES_MAX):
        if position + _ZIP_ENTRY.size > len(content):
            return
        entry = _ZIP_ENTRY.unpack_from(content, position)
        if entry[0] != _ZIP_ENTRY_MAGIC:
            return
        name_bytes, extra_bytes, comment_bytes = entry[10:13]
        name_at = position + _ZIP_ENTRY.size
        yield bytes(content[name_at : name_at + name_bytes])
        position = name_at + name_bytes + extra_bytes + comment_bytes
