"""Odd Particle modules for the tests: one thing wrong, or one unusual, and everything else sealed again."""

import io
import struct
import zipfile
import zlib

from firmware_formats.building import PLAIN_SUFFIX, extension, particle_binary, seal
from firmware_formats.particle import CRC_BYTES, PREFIX, SUFFIX_BYTES, Flag

PHOTON = 6
PRODUCT = 1000
VERSION = 7
FLAGS_AT = 9  # in the prefix
PLATFORM_AT = 12
FUNCTION_AT = 14


def sound(product_id: int = PRODUCT, version: int = VERSION, platform_id: int = PHOTON, **options: int) -> bytes:
    return particle_binary(product_id, version, platform_id, **options)  # type: ignore[arg-type]  # options are its keywords


def changed(binary: bytes, at: int, value: bytes) -> bytes:
    """Bytes overwritten, nothing sealed: what damage does."""
    at %= len(binary)
    return binary[:at] + value + binary[at + len(value) :]


def altered(binary: bytes, at: int, value: bytes) -> bytes:
    """Bytes overwritten and sealed again: what a tool does."""
    return seal(changed(binary, at, value))


def flagged(flags: int) -> bytes:
    return altered(sound(), FLAGS_AT, bytes([flags]))


def recrc(binary: bytes) -> bytes:
    """The checksum alone made true again, as a program would that only knows of it."""
    return binary[:-CRC_BYTES] + struct.pack(">I", zlib.crc32(binary[:-CRC_BYTES]))


def with_prefix_extensions(extensions: bytes) -> bytes:
    plain = bytearray(sound())
    plain[FLAGS_AT] |= Flag.PREFIX_EXTENSIONS
    return seal(bytes(plain[: PREFIX.size]) + extensions + bytes(plain[PREFIX.size :]))


def with_suffix(before_suffix: bytes, suffix_bytes: int | None = None) -> bytes:
    """`before_suffix` is all that stands between the code and the fixed 36 bytes, product data included."""
    size = SUFFIX_BYTES + len(before_suffix) if suffix_bytes is None else suffix_bytes
    code = sound()[: -CRC_BYTES - PLAIN_SUFFIX]
    return seal(code + before_suffix + bytes(34) + struct.pack("<H", size) + bytes(CRC_BYTES))


def combined() -> bytes:
    return flagged(Flag.COMBINED) + sound(version=VERSION + 1)


def packed(
    content: bytes,
    *,
    stated: int | None = None,
    method: int = 0,
    flags: int = 0,
    product_id: int = PRODUCT,
    ending: bytes | None = b"",
) -> bytes:
    """A compressed module around any content, with a header that may lie about it; `ending` follows the data, None cuts its end off."""
    wrapper = sound(product_id=product_id)
    prefix = changed(wrapper[: PREFIX.size], FLAGS_AT, bytes([Flag.COMPRESSED | flags]))
    deflate = zlib.compressobj(9, wbits=-15)
    header = struct.pack("<HBBI", 8, method, 15, len(content) if stated is None else stated)
    data = deflate.compress(content) + deflate.flush(zlib.Z_SYNC_FLUSH if ending is None else zlib.Z_FINISH) + (ending or b"")
    return seal(prefix + header + data + wrapper[-CRC_BYTES - PLAIN_SUFFIX :])


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content of " + name.encode())
    return buffer.getvalue()


def uf2() -> bytes:
    return struct.pack("<II", 0x0A324655, 0x9E5D5157).ljust(512, b"\0")


END = extension(0, b"")
