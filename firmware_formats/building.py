"""Builds and re-stamps Particle modules, for the demo, the command line and the simulator: what a compiler's last step does."""

import hashlib
import struct
import zlib

from firmware_formats.particle import (
    CRC_BYTES,
    DIGEST_FROM_END,
    EXTENSION_HEADER,
    NOTHING_SAID,
    PACKED_HEADER,
    PREFIX,
    PRODUCT_BYTES,
    PRODUCT_FROM_END,
    SUFFIX_BYTES,
    ExtensionType,
    Flag,
    Function,
    read,
)
from firmware_formats.unreadable import Unreadable

_START = 0x080A_0000
_LOCATION_BYTES = 12  # three addresses
PLAIN_SUFFIX = SUFFIX_BYTES + PRODUCT_BYTES
EXTENDED_SUFFIX = SUFFIX_BYTES + (EXTENSION_HEADER.size + _LOCATION_BYTES) + (EXTENSION_HEADER.size + 6)


def particle_binary(
    product_id: int,
    version: int,
    platform_id: int,
    *,
    size: int = 2048,
    function: int = Function.USER_PART,
    vector_table: int = 0,
    suffix_bytes: int = PLAIN_SUFFIX,
    compressed: bool = False,
) -> bytes:
    """A sound module that names this product and version; the same arguments give the same bytes.

    `size` is the code's, in bytes: half of it differs from version to version, half is padding as in real ones.
    `vector_table` is the bytes before the prefix. `suffix_bytes` is 40, 62 (the extension form of P2 and M SoM) or 36 (no product data).
    """
    prefix = PREFIX.pack(0, 0, 0, 0, 1, platform_id, function, 1, Function.SYSTEM_PART, 1, 1, 0, 0, 0)
    seed = f"{product_id} {version} {platform_id} {function}".encode()
    code = hashlib.shake_256(seed).digest(size // 2).ljust(size, b"\xff")
    suffix = _suffix(product_id, version, suffix_bytes)
    module = seal(bytes(vector_table) + prefix + code + suffix + bytes(CRC_BYTES), vector_table)
    return _packed(module, vector_table, suffix) if compressed else module


def restamp(binary: bytes, product_id: int, version: int) -> bytes:
    """The same firmware naming another product and version.

    Raises Unreadable if it is no sound module, has no room for product data (NOT_A_MODULE), or is compressed (UNSUPPORTED).
    """
    module = read(binary)
    if module.prefix.flags & Flag.COMPRESSED:
        raise Unreadable("UNSUPPORTED", "A compressed module can't be re-stamped. Unpack it first.")
    if module.suffix_bytes < PLAIN_SUFFIX:
        raise Unreadable("NOT_A_MODULE", "The module has no room for a product ID and version. Compile it with PRODUCT_VERSION.")
    changed = bytearray(binary)
    struct.pack_into("<HH", changed, len(changed) - PRODUCT_FROM_END, product_id, version)
    return seal(bytes(changed), module.prefix.offset)


def seal(binary: bytes, prefix_offset: int = 0) -> bytes:
    """`binary` with end address, digest and checksum made true, and a start address given to a prefix that has none."""
    sealed = bytearray(binary)
    start = struct.unpack_from("<I", sealed, prefix_offset)[0] or _START
    struct.pack_into("<II", sealed, prefix_offset, start, start + len(sealed) - CRC_BYTES)
    sealed[-DIGEST_FROM_END : -DIGEST_FROM_END + 32] = hashlib.sha256(sealed[:-DIGEST_FROM_END]).digest()
    struct.pack_into(">I", sealed, len(sealed) - CRC_BYTES, zlib.crc32(sealed[:-CRC_BYTES]))
    return bytes(sealed)


def extension(kind: int, data: bytes) -> bytes:
    """One extension as it stands in a prefix or suffix."""
    return EXTENSION_HEADER.pack(kind, EXTENSION_HEADER.size + len(data)) + data


def _suffix(product_id: int, version: int, suffix_bytes: int) -> bytes:
    product = struct.pack("<HH", product_id, version)
    before = {
        SUFFIX_BYTES: b"",
        PLAIN_SUFFIX: product,
        EXTENDED_SUFFIX: extension(ExtensionType.LOCATION, struct.pack("<III", _START, _START, _START))
        + extension(ExtensionType.PRODUCT, struct.pack("<H", NOTHING_SAID) + product),
    }[suffix_bytes]
    return before + bytes(2 + 32) + struct.pack("<H", suffix_bytes)


def _packed(module: bytes, vector_table: int, suffix: bytes) -> bytes:
    """The compressed form: the whole module deflated between its own prefix and suffix."""
    deflate = zlib.compressobj(9, wbits=-15)
    data = deflate.compress(module) + deflate.flush()
    prefix = bytearray(module[vector_table : vector_table + PREFIX.size])
    prefix[9] |= Flag.COMPRESSED
    header = PACKED_HEADER.pack(PACKED_HEADER.size, 0, 15, len(module))
    return seal(bytes(prefix) + header + data + suffix + bytes(CRC_BYTES))
