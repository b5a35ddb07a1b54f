"""Reads a Particle module: what its prefix and suffix say, and whether length, checksum and digest hold."""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from firmware_formats.content import Content
from firmware_formats.platforms import DEFAULT_MAX_BYTES, PARTICLE_NAME
from firmware_formats.unreadable import Unreadable

PREFIX = struct.Struct("<IIBBHHBBBBHBBH")
EXTENSION_HEADER = struct.Struct("<HH")
PACKED_HEADER = struct.Struct("<HBBI")
SUFFIX_BYTES = 36  # reserved 2, SHA-256 32, suffix size 2
PRODUCT_BYTES = 4  # product id 2, version 2
CRC_BYTES = 4
DIGEST_FROM_END = 38
PRODUCT_FROM_END = 44
NOTHING_SAID = 0xFFFF

_USUAL_OFFSETS = (0, 0x200, 0x184, 0xC0, 0x10C)  # none; the vector tables of nRF52840, STM32F2, Bluz and Core
_SEARCHED_BYTES = 8 * 1024  # nothing real begins later, and the search must stay short on 16 MiB of noise
_EXTENSIONS_MAX = 1024  # in a row; a bundle has at most 256 assets, and a hostile file could hold a million
_LEAST_BYTES = PREFIX.size + SUFFIX_BYTES + CRC_BYTES


class Function(IntEnum):
    NONE = 0
    RESOURCE = 1
    BOOTLOADER = 2
    MONOLITHIC = 3
    SYSTEM_PART = 4
    USER_PART = 5
    SETTINGS = 6
    NCP = 7
    RADIO = 8
    ASSET = 9


class Flag(IntFlag):
    DROP_MODULE_INFO = 1
    COMPRESSED = 2
    COMBINED = 4
    ENCRYPTED = 8
    PREFIX_EXTENSIONS = 16


class ExtensionType(IntEnum):
    END = 0
    PRODUCT = 1
    LOCATION = 2
    DEPENDENCY = 3
    HASH = 0x10
    NAME = 0x11
    ASSET_DEPENDENCY = 0x12
    SECURITY_MODE = 0x13
    ASSET_TYPE = 0x14
    INVALID = 0xFFFF


APPLICATIONS = (Function.MONOLITHIC, Function.USER_PART)
_KNOWN_FLAGS = sum(Flag)
_KNOWN_FUNCTIONS = frozenset(Function)


@dataclass(frozen=True, slots=True)
class Dependency:
    """A module that must be on the device already, with its lowest API level."""

    function: int
    index: int
    version: int


@dataclass(frozen=True, slots=True)
class Extension:
    """`data` is without the four-byte header."""

    type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Prefix:
    """The 24 bytes that open a module; `offset` is where they stand, behind the vector table if there is one."""

    offset: int
    start: int
    end: int
    reserved: int
    flags: int
    api_level: int
    platform_id: int
    function: int
    index: int
    dependencies: tuple[Dependency, ...]

    @property
    def file_bytes(self) -> int:
        """The length the whole file must have, vector table and checksum included."""
        return self.end - self.start + CRC_BYTES

    @property
    def is_known(self) -> bool:
        functions = {self.function} | {d.function for d in self.dependencies}
        return self.platform_id in PARTICLE_NAME and functions <= _KNOWN_FUNCTIONS and self.flags & ~_KNOWN_FLAGS == 0


@dataclass(frozen=True, slots=True)
class Module:
    """What a sound module says of itself. `product_id` and `version` are None where it says nothing."""

    prefix: Prefix
    code_offset: int  # in the file: behind the prefix and its extensions
    product_id: int | None
    version: int | None
    suffix_bytes: int
    extensions: tuple[Extension, ...]
    crc32: int
    sha256: str  # of everything before the digest in the file, as stored there
    size: int
    unpacked_bytes: int | None  # None unless compressed

    @property
    def platform_id(self) -> int:
        return self.prefix.platform_id

    @property
    def is_application(self) -> bool:
        return self.prefix.function in APPLICATIONS

    @property
    def is_generic(self) -> bool:
        """Built for any product of its platform: Device OS 4 and later write the platform's id as the product's."""
        return self.product_id == self.platform_id


def read(content: Content, *, unpacked_max: int = DEFAULT_MAX_BYTES) -> Module:
    """What the module says of itself, once everything that guards it has been checked, in the gate's order.

    `unpacked_max` limits what a compressed module may unpack to, in bytes. The work is bounded by the content's size.
    Raises Unreadable, and nothing else, whatever the bytes.
    """
    with memoryview(content) as view:
        module = _sound(view, unpacked_max)
        if module.prefix.flags & Flag.COMPRESSED:
            _agrees_with_what_is_packed(view, module, unpacked_max)
        return module


def find_prefix(content: Content) -> Prefix | None:
    """The prefix whose length fits the content; else the first that is sound but for the length; else None."""
    near_miss = None
    for offset in _offsets(len(content)):
        prefix = _prefix_at(content, offset)
        if prefix is None or not prefix.is_known:
            continue
        if prefix.file_bytes == len(content):
            return prefix
        near_miss = near_miss or prefix
    return near_miss


def _offsets(size: int) -> Iterator[int]:
    last = min(_SEARCHED_BYTES, size - _LEAST_BYTES)
    yield from (offset for offset in _USUAL_OFFSETS if offset <= last)
    yield from range(4, last + 1, 4)


def _prefix_at(content: Content, offset: int) -> Prefix | None:
    start, end, reserved, flags, api_level, platform_id, function, index, *needs = PREFIX.unpack_from(content, offset)
    if end <= start or function == Function.NONE:
        return None
    dependencies = (Dependency(*needs[:3]), Dependency(*needs[3:]))
    if any(d.function == Function.NONE and (d.index or d.version) for d in dependencies):
        return None
    return Prefix(offset, start, end, reserved, flags, api_level, platform_id, function, index, dependencies)


def _sound(view: memoryview, unpacked_max: int) -> Module:
    prefix = find_prefix(view)
    if prefix is None:
        raise Unreadable("NOT_A_MODULE", "No Particle module was found in this file. Upload the .bin that the compiler wrote.")
    if prefix.file_bytes != len(view):
        _refuse_flags(prefix)
        raise Unreadable(
            "BAD_LENGTH",
            f"The module says it is {prefix.file_bytes} bytes long, the file has {len(view)}: it was cut or padded. Upload it again.",
        )
    module = _described(view, prefix)
    _refuse_flags(prefix)
    if prefix.flags & Flag.COMPRESSED:
        _packed_bytes(view, module, unpacked_max)
    _check_integrity(view, module)
    return module


def _refuse_flags(prefix: Prefix) -> None:
    if prefix.flags & Flag.COMBINED:
        raise Unreadable("UNSUPPORTED", "The file holds several modules in one. Upload the application's module alone.")
    if prefix.flags & Flag.ENCRYPTED:
        raise Unreadable("UNSUPPORTED", "The module is encrypted, so what it holds can't be checked. Upload it unencrypted.")


def _described(view: memoryview, prefix: Prefix) -> Module:
    code_offset, before = _prefix_extensions(view, prefix)
    size = len(view)
    (suffix_bytes,) = struct.unpack_from("<H", view, size - CRC_BYTES - 2)
    if suffix_bytes < SUFFIX_BYTES or SUFFIX_BYTES < suffix_bytes < SUFFIX_BYTES + PRODUCT_BYTES:
        raise Unreadable(
            "NOT_A_MODULE", f"The module's suffix says it is {suffix_bytes} bytes long; 36, 40 or more were expected. Build it again."
        )
    if code_offset + suffix_bytes + CRC_BYTES > size:
        raise Unreadable("NOT_A_MODULE", f"The module's suffix of {suffix_bytes} bytes does not fit into the file. Build it again.")
    product_id, version, behind = _product_data(view, suffix_bytes)
    (crc32,) = struct.unpack_from(">I", view, size - CRC_BYTES)
    digest = bytes(view[size - DIGEST_FROM_END : size - DIGEST_FROM_END + 32]).hex()
    unpacked = None
    if prefix.flags & Flag.COMPRESSED:
        if code_offset + PACKED_HEADER.size + suffix_bytes + CRC_BYTES > size:
            raise Unreadable("NOT_A_MODULE", "The module says it is compressed but has no room for compressed data. Build it again.")
        unpacked = PACKED_HEADER.unpack_from(view, code_offset)[3]
    return Module(prefix, code_offset, product_id, version, suffix_bytes, (*before, *behind), crc32, digest, size, unpacked)


def _prefix_extensions(view: memoryview, prefix: Prefix) -> tuple[int, list[Extension]]:
    """Where the code begins, and the extensions that stand before it."""
    position = prefix.offset + PREFIX.size
    if not prefix.flags & Flag.PREFIX_EXTENSIONS:
        return position, []
    found = []
    for extension in _extensions(view, position, len(view) - SUFFIX_BYTES - CRC_BYTES):
        found.append(extension)
        position += EXTENSION_HEADER.size + len(extension.data)
        if extension.type == ExtensionType.END:
            return position, found
    raise Unreadable("NOT_A_MODULE", "The extensions of the module's prefix have no end. Build it again.")


def _product_data(view: memoryview, suffix_bytes: int) -> tuple[int | None, int | None, list[Extension]]:
    if suffix_bytes == SUFFIX_BYTES:  # what stands in the product's place is code
        return None, None, []
    stop = len(view) - CRC_BYTES - SUFFIX_BYTES
    extensions = list(_suffix_extensions(view, stop + SUFFIX_BYTES - suffix_bytes, stop))
    raw = bytes(view[stop - PRODUCT_BYTES : stop])
    # One file, one answer: readers that look at the fixed place and readers that walk must find the same product.
    if any(e.type == ExtensionType.PRODUCT and e.data[2:6] != raw for e in extensions):
        raise Unreadable("NOT_A_MODULE", "The module names two different products or versions. Build it again.")
    product_id, version = struct.unpack("<HH", raw)
    return (
        None if product_id == NOTHING_SAID else product_id,
        None if version in (0, NOTHING_SAID) else version,
        extensions,
    )


def _suffix_extensions(view: memoryview, start: int, stop: int) -> Iterator[Extension]:
    """Extensions up to `stop`; the last four bytes are the bare product id and version unless an extension held them."""
    left, product_seen = stop - start, False
    if left == PRODUCT_BYTES:
        return
    for extension in _extensions(view, start, stop):
        yield extension
        left -= EXTENSION_HEADER.size + len(extension.data)
        product_seen = product_seen or extension.type == ExtensionType.PRODUCT
        if extension.type == ExtensionType.END or (left == PRODUCT_BYTES and not product_seen):
            break
    if not product_seen and left < PRODUCT_BYTES:
        raise Unreadable("NOT_A_MODULE", "The extensions of the module's suffix leave no room for a product. Build it again.")


def _extensions(view: memoryview, position: int, stop: int) -> Iterator[Extension]:
    for _ in range(_EXTENSIONS_MAX):
        if position >= stop:
            return
        if position + EXTENSION_HEADER.size > stop:
            raise Unreadable("NOT_A_MODULE", "An extension of the module is cut off. Build it again.")
        kind, length = EXTENSION_HEADER.unpack_from(view, position)
        if kind == ExtensionType.INVALID or length < EXTENSION_HEADER.size or position + length > stop:
            raise Unreadable(
                "NOT_A_MODULE", f"An extension of the module (type {kind}, {length} bytes) is not well formed. Build it again."
            )
        yield Extension(kind, bytes(view[position + EXTENSION_HEADER.size : position + length]))
        position += length
    if position < stop:
        raise Unreadable("NOT_A_MODULE", f"The module has more than {_EXTENSIONS_MAX} extensions in a row. Build it again.")


def _packed_bytes(view: memoryview, module: Module, unpacked_max: int) -> memoryview:
    """The compressed data, once its header is one we know."""
    header_bytes, method, window_bits, unpacked = PACKED_HEADER.unpack_from(view, module.code_offset)
    if header_bytes != PACKED_HEADER.size or method != 0 or (window_bits and not 8 <= window_bits <= 15):
        raise Unreadable("UNSUPPORTED", f"The module is compressed by method {method}; only 0 (deflate) is known. Upload it uncompressed.")
    if unpacked > unpacked_max:
        raise Unreadable("TOO_LARGE", f"The module unpacks to {unpacked} bytes; at most {unpacked_max} are taken. Make it smaller.")
    return view[module.code_offset + PACKED_HEADER.size : len(view) - CRC_BYTES - module.suffix_bytes]


def _check_integrity(view: memoryview, module: Module) -> None:
    crc32 = zlib.crc32(view[:-CRC_BYTES])
    if crc32 != module.crc32:
        raise Unreadable(
            "BAD_CRC", f"The file's checksum says {module.crc32:08x}, its bytes give {crc32:08x}: it was damaged. Upload it again."
        )
    # Radio and NCP images hash their payload only, so the digest binds applications alone.
    if module.is_application and hashlib.sha256(view[:-DIGEST_FROM_END]).hexdigest() != module.sha256:
        raise Unreadable(
            "BAD_DIGEST", "The SHA-256 inside the module does not fit its bytes: it was changed after linking. Build it again."
        )


def _agrees_with_what_is_packed(view: memoryview, module: Module, unpacked_max: int) -> None:
    """What is unpacked on the device must be as long as stated, and no other product's module in disguise."""
    unpacked = _unpacked(_packed_bytes(view, module, unpacked_max), module.unpacked_bytes or 0)
    if module.prefix.flags & Flag.DROP_MODULE_INFO:  # prefix and suffix were left out of the packed data
        return
    with memoryview(unpacked) as inside:
        prefix = find_prefix(inside)
        if prefix is None or prefix.file_bytes != len(inside):
            return
        inner = _sound(inside, unpacked_max)
    if inner.prefix.flags & Flag.COMPRESSED or _identity(inner) != _identity(module):
        raise Unreadable("UNSUPPORTED", "The module that is packed inside is another than the wrapper says. Compress it again, once.")


def _identity(module: Module) -> tuple[int, int, int | None, int | None]:
    return module.prefix.function, module.platform_id, module.product_id, module.version


def _unpacked(packed: memoryview, stated: int) -> bytes:
    inflate = zlib.decompressobj(wbits=-15)
    try:
        unpacked = inflate.decompress(packed, stated + 1)
    except zlib.error:
        raise Unreadable("UNSUPPORTED", "The compressed data can't be unpacked. Compress it again, or upload it uncompressed.") from None
    if len(unpacked) != stated or not inflate.eof or inflate.unused_data:
        raise Unreadable("UNSUPPORTED", f"The compressed data does not unpack to the {stated} bytes it states. Compress it again.")
    return unpacked
