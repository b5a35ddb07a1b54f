"""ESP32, MCUboot and fwup images and Particle bundles for the tests, built field by field; each argument may be made wrong."""

import hashlib
import io
import struct
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import xor

from firmware_formats.building import extension, particle_binary, seal
from firmware_formats.particle import CRC_BYTES, ExtensionType

SECTOR = 4096
VENDOR = uuid.uuid5(uuid.NAMESPACE_DNS, "acme.example")


# ── ESP32 ──
def esp32(
    version: bytes = b"7", project: bytes = b"lamp", *, chip: int = 0, segments: Sequence[bytes] = (b"code" * 64,), digest: bool = True
) -> bytes:
    description = struct.pack(
        "<II8x32s32s16s16s32s32sHH76x", 0xABCD5432, 3, version, project, b"12:00:00", b"Nov 22 2026", b"v5.3", bytes(32), 0, 99
    )
    parts = (description, *segments)
    header = struct.pack("<BBBBIB3xHBHH4xB", 0xE9, len(parts), 2, 0x20, 0x40080400, 0xEE, chip, 0, 0, 99, digest)
    body = header + b"".join(struct.pack("<II", 0x3F400020 + 0x10000 * n, len(part)) + part for n, part in enumerate(parts))
    checksum = reduce(xor, b"".join(parts), 0xEF)
    body += bytes(15 - len(body) % 16) + bytes([checksum])
    return body + (hashlib.sha256(body).digest() if digest else b"")


def with_sector(image: bytes) -> bytes:
    """With a Secure Boot v2 sector of one block, as far as its digest goes."""
    padded = image + b"\xff" * (-len(image) % SECTOR)
    block = bytes([0xE7, 2, 0, 0]) + hashlib.sha256(padded).digest()
    return padded + block.ljust(SECTOR, b"\xff")


# ── MCUboot ──
def record(kind: int, data: bytes) -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def area(magic: int, *records: bytes) -> bytes:
    body = b"".join(records)
    return struct.pack("<HH", magic, 4 + len(body)) + body


def mcuboot(
    version: tuple[int, int, int, int] = (1, 2, 3, 7),
    *,
    vendor: uuid.UUID | None = VENDOR,
    product: str = "lamp",
    flags: int = 0,
    header_bytes: int = 32,
    code: bytes = b"code" * 200,
    protected: bytes | None = None,
    behind: bytes = b"",
) -> bytes:
    """`protected` stands for the whole area of protected records, `behind` for more records after the digest's."""
    if protected is None:
        uuids = [] if vendor is None else [record(0x74, vendor.bytes), record(0x75, uuid.uuid5(vendor, product).bytes)]
        protected = area(0x6908, *uuids) if uuids else b""
    header = struct.pack("<IIHHIIBBHI4x", 0x96F3B83D, 0, header_bytes, len(protected), len(code), flags, *version)
    covered = header.ljust(header_bytes, b"\0") + code + protected
    return covered + area(0x6907, record(0x10, hashlib.sha256(covered).digest()), behind)


# ── archives ──
def zipped(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def meta_conf(resources: Mapping[str, bytes], *, version: str = "7", product: str = "lamp") -> str:
    listed = "".join(
        f'file-resource "{name}" {{\nlength={len(content)}\nblake2b-256="{hashlib.blake2b(content, digest_size=32).hexdigest()}"\n}}\n'
        for name, content in resources.items()
    )
    return (
        f'meta-version="{version}"\nmeta-product="{product}"\nmeta-platform = \'rpi0\' # a "comment" {{\n/* and }} another */\n{listed}'
        "mbr mbr-a {\n partition 0 {\n block-offset=63\n type=0x1\n }\n}\n"
        'task complete {\n meta-version="99"\n on-init { mbr_write(mbr-a) }\n on-resource rootfs { raw_write("{") }\n}\n'
    )


def fwup(resources: Mapping[str, bytes] | None = None, **meta: str) -> bytes:
    data = {"rootfs.img": b"root" * 500, "boot/kernel": b"kernel"} if resources is None else resources
    return zipped({"meta.conf": meta_conf(data, **meta).encode(), **{f"data/{name}": content for name, content in data.items()}})


ASSETS = {"picture.png": b"pixels" * 100, "sounds/ring.wav": b"ring"}


def naming(assets: Mapping[str, bytes], *, product_id: int = 1000, version: int = 7, platform_id: int = 6) -> bytes:
    """An application that names these assets, in the extension form of the suffix."""
    plain = particle_binary(product_id, version, platform_id, suffix_bytes=40)
    named = b"".join(
        extension(ExtensionType.ASSET_DEPENDENCY, b"\0\x20" + hashlib.sha256(content).digest() + name.encode())
        for name, content in assets.items()
    )
    product = extension(ExtensionType.PRODUCT, struct.pack("<HHH", 0xFFFF, product_id, version))
    suffix = named + product + bytes(34) + struct.pack("<H", 36 + len(named) + len(product))
    return seal(plain[: -CRC_BYTES - 40] + suffix + bytes(CRC_BYTES))


def bundle(assets: Mapping[str, bytes] = ASSETS, *, application: bytes | None = None, **more: bytes) -> bytes:
    content = naming(assets) if application is None else application
    return zipped({"lamp.bin": content, **{f"assets/{name}": data for name, data in assets.items()}, **more})
