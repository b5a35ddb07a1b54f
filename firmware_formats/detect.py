"""Tells a firmware file's kind from its content alone; a name or a content type from outside is never asked."""

from enum import StrEnum

from firmware_formats import archive, esp32, mcuboot
from firmware_formats.content import Content
from firmware_formats.particle import find_prefix


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
_UF2 = 0x0A324655


def kind_of(content: Content) -> Kind:
    """The first kind that fits; OPAQUE if none does. Reads a bounded part of the content and never raises."""
    if content[:4] == _ZIP:
        return _kind_of_zip(content)
    if _u32(content, 0) == mcuboot.MAGIC:
        return Kind.MCUBOOT
    if content[:1] == bytes([esp32.MAGIC]) and _u32(content, esp32.DESCRIPTION_AT) == esp32.DESCRIPTION_MAGIC:
        return Kind.ESP32
    if _u32(content, 0) == _UF2:
        return Kind.UF2
    return Kind.PARTICLE if find_prefix(content) else Kind.OPAQUE


def _u32(content: Content, offset: int) -> int | None:
    if len(content) < offset + 4:
        return None
    return int.from_bytes(content[offset : offset + 4], "little")


def _kind_of_zip(content: Content) -> Kind:
    with memoryview(content) as view:
        names = archive.names(view)
    if any(name.endswith(b".bin") and b"/" not in name for name in names):
        return Kind.BUNDLE
    return Kind.FWUP if {b"meta.conf", b"meta.conf.ed25519"} & set(names) else Kind.OPAQUE
