"""Decides whether a file may be a product's firmware: the part of the upload gate that needs only the file and the form."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from errors import BinaryInvalid, BinaryMismatch
from firmware_formats import bundle, esp32, fwup, mcuboot, particle
from firmware_formats.content import Content
from firmware_formats.detect import KIND_NAMES, Kind, kind_of
from firmware_formats.particle import Module
from firmware_formats.platforms import DEFAULT_MAX_BYTES, PARTICLE_ID, FirmwareFormat, Platform, particle_name, size_cap
from firmware_formats.unreadable import Unreadable

VERSION_MAX = 65534  # 65535 in a binary means: none

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class _Form:
    """What the file is held against; `version` is the declared one, None takes the file's, `max_bytes` the setting."""

    platform: Platform
    product_id: int
    slug: str
    version: int | None
    allow_generic: bool
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The file is accepted. `version` is the one it is to be stored under.

    `verified` means that the file itself names this product and this version. `found_…` is what it names, None where it
    names nothing; `display_version` is its own text for the version. `facts` is everything else that was read, for keeping.
    """

    format: FirmwareFormat
    verified: bool
    version: int
    found_version: int | None = None
    found_product_id: int | None = None
    display_version: str | None = None
    facts: Mapping[str, int | str | None] = field(default_factory=dict)


def judge(
    content: Content,
    *,
    platform: str,
    product_id: int,
    slug: str,
    version: int | None,
    allow_generic: bool,
    settings_max: int = DEFAULT_MAX_BYTES,
) -> Verdict:
    """Apply the gate's rules in their order; the first one broken answers.

    `product_id` and `slug` are how binaries name the product, each format in its own way. `version` is the declared one; None
    takes the file's. `settings_max` is in bytes, for the file and for what an archive unpacks to. It computes for milliseconds a
    megabyte, so callers on an event loop run it in a thread.
    Raises BinaryInvalid (no binary this product can run) or BinaryMismatch (another one than the form says) with `reason`.
    Source: guide, "Preparing a binary" and "Uploading firmware"; firmware formats, "The upload gate".
    """
    form = _Form(Platform(platform), product_id, slug, version, allow_generic, settings_max)
    kind = kind_of(content)
    _must_fit(content, settings_max if kind is Kind.BUNDLE else size_cap(platform, settings_max), platform)
    if form.platform in PARTICLE_ID:
        return _judge_particle(content, kind, form)
    return _JUDGES[form.platform](content, kind, form)


def _must_fit(content: Content, cap: int, platform: str) -> None:
    if len(content) > cap:
        raise BinaryInvalid(f"The file has {len(content)} bytes; {platform} takes at most {cap}. Make it smaller.", reason="TOO_LARGE")


def _must_be(expected: Kind, kind: Kind, platform: Platform) -> None:
    """Content of no known format goes on to the reader, whose refusal says more than "another format"."""
    if kind not in (expected, Kind.OPAQUE):
        raise BinaryInvalid(
            f"The file is {KIND_NAMES[kind]}; {platform} runs {KIND_NAMES[expected]}. Upload the one built for it.", reason="WRONG_FORMAT"
        )


def _readable(read: Callable[[], Read]) -> Read:
    """What a reader says, or its refusal in the gate's words."""
    try:
        return read()
    except Unreadable as refusal:
        raise BinaryInvalid(refusal.message, reason=refusal.reason) from None


def _agreed(found: int | None, shown: str, declared: int | None) -> int:
    """The version of a file that says `found`, or nothing that is a plain number, and the form's."""
    if declared is not None and found not in (None, declared):
        raise BinaryMismatch(
            f"The file says version {found}, the form says {declared}. Correct the form, or build the file as version {declared}.",
            reason="VERSION_MISMATCH",
        )
    if declared is not None:
        return declared
    if found is None or not 1 <= found <= VERSION_MAX:
        raise BinaryMismatch(
            f'The file says "{shown}", which is no whole number from 1 to {VERSION_MAX}. Say which version it is.', reason="NO_VERSION"
        )
    return found


def _whole_number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


# ── ESP32 ──
def _judge_esp32(content: Content, kind: Kind, form: _Form) -> Verdict:
    _must_be(Kind.ESP32, kind, form.platform)
    image = _readable(lambda: esp32.read(content))
    if image.chip is None:
        raise BinaryMismatch(
            f"The file is built for the chip {image.chip_id}, the product's platform is ESP32 ({', '.join(esp32.CHIPS.values())}). "
            "Build it for one of these.",
            reason="PLATFORM_MISMATCH",
        )
    found = _whole_number(image.version)
    version = _agreed(found, image.version, form.version)
    facts: dict[str, int | str | None] = {
        "chip": image.chip,
        "projectName": image.project_name,
        "idfVersion": image.idf_version,
        "built": image.built,
        "secureVersion": image.secure_version,
        "elfSha256": image.elf_sha256,
        "signatureSector": int(image.has_signature_sector),
    }
    verified = found == version and image.project_name == form.slug
    return Verdict(FirmwareFormat.ESP32, verified, version, found, None, image.version or None, facts)


# ── MCUboot ──
def _judge_mcuboot(content: Content, kind: Kind, form: _Form) -> Verdict:
    _must_be(Kind.MCUBOOT, kind, form.platform)
    image = _readable(lambda: mcuboot.read(content))
    if not image.is_bootable:
        raise BinaryInvalid("The image says that it can't be booted. Upload the application, not a part of it.", reason="NOT_APPLICATION")
    found = image.build or None  # imgtool writes 0 where nobody gave one
    version = _agreed(found, image.version, form.version)
    ours = image.vendor is not None and image.class_id == mcuboot.class_id(image.vendor, form.slug)
    facts: dict[str, int | str | None] = {
        "vendorId": str(image.vendor) if image.vendor else None,
        "classId": str(image.class_id) if image.class_id else None,
        "flags": image.flags,
        "imageSha256": image.sha256,
    }
    return Verdict(FirmwareFormat.MCUBOOT, found == version and ours, version, found, None, image.version, facts)


# ── fwup, and what is not read ──
def _judge_other(content: Content, kind: Kind, form: _Form) -> Verdict:
    if kind is Kind.FWUP:
        return _judge_fwup(content, form)
    if kind is not Kind.OPAQUE and _is_surely(kind, content, form):
        raise BinaryInvalid(
            f"The file is {KIND_NAMES[kind]}; OTHER runs a fwup archive or a file of no known format. Choose the product of its platform.",
            reason="WRONG_FORMAT",
        )
    if len(content) == 0:
        raise BinaryInvalid("The file is empty. Upload the file that the build wrote.", reason="BAD_LENGTH")
    if form.version is None:
        raise BinaryMismatch("The file is not read for a version on this platform. Say which version it is.", reason="NO_VERSION")
    return Verdict(FirmwareFormat.OPAQUE, False, form.version)


def _is_surely(kind: Kind, content: Content, form: _Form) -> bool:
    """Any file may look a little like a module, and many a zip has a .bin: only one that is right in all parts is taken for it."""
    if kind is Kind.BUNDLE:
        try:
            application = bundle.read(content, unpacked_max=form.max_bytes).application
        except Unreadable:
            return False
        return _is_surely(Kind.PARTICLE, application, form)
    if kind is Kind.PARTICLE:
        prefix = particle.find_prefix(content)
        return prefix is not None and prefix.file_bytes == len(content)
    return True


def _judge_fwup(content: Content, form: _Form) -> Verdict:
    package = _readable(lambda: fwup.read(content, unpacked_max=fwup.UNPACKED_FACTOR * form.max_bytes))
    found = _whole_number(package.version)
    version = _agreed(found, package.version, form.version)
    facts: dict[str, int | str | None] = {
        "product": package.product,
        "platform": package.platform,
        "author": package.author,
        "resources": package.resources,
        "signatureInside": int(package.is_signed),
    }
    verified = found == version and package.product == form.slug
    return Verdict(FirmwareFormat.FWUP, verified, version, found, None, package.version or None, facts)


_JUDGES = {Platform.ESP32: _judge_esp32, Platform.MCUBOOT: _judge_mcuboot, Platform.OTHER: _judge_other}


# ── Particle ──
def _judge_particle(content: Content, kind: Kind, form: _Form) -> Verdict:
    packed = None
    if kind is not Kind.BUNDLE:
        _must_be(Kind.PARTICLE, kind, form.platform)
    else:
        packed = _readable(lambda: bundle.read(content, unpacked_max=form.max_bytes))
        content = packed.application
        _must_fit(content, size_cap(form.platform, form.max_bytes), form.platform)
    module = _readable(lambda: _module(content, packed, form))
    _must_be_an_application(module)
    _must_be_for(form.platform, module)
    found = _version_of(module, form.version)
    _must_name(form.product_id, module, form.allow_generic)
    facts = _facts(module) | ({} if packed is None else {"assets": len(packed.assets)})
    return Verdict(FirmwareFormat.PARTICLE, not module.is_generic, found, found, module.product_id, str(found), facts)


def _module(content: Content, packed: bundle.Bundle | None, form: _Form) -> Module:
    module = particle.read(content, unpacked_max=size_cap(form.platform, form.max_bytes))
    if packed is not None:
        bundle.require_named(packed, module)
    return module


def _must_be_an_application(module: Module) -> None:
    if not module.is_application:
        raise BinaryInvalid(
            f"The module's function is {particle.Function(module.prefix.function).name}; a product runs USER_PART or MONOLITHIC. "
            "Upload the application, not a part of the system.",
            reason="NOT_APPLICATION",
        )


def _must_be_for(platform: Platform, module: Module) -> None:
    if module.platform_id != PARTICLE_ID[platform]:
        raise BinaryMismatch(
            f"The file is built for {particle_name(module.platform_id)}, the product's platform is "
            f"{particle_name(PARTICLE_ID[platform])}. Compile it for that platform.",
            reason="PLATFORM_MISMATCH",
        )


def _version_of(module: Module, declared: int | None) -> int:
    if module.version is None:
        raise BinaryMismatch(
            f"The file carries no version. Add PRODUCT_VERSION({declared or '…'}) to the source and compile it again.", reason="NO_VERSION"
        )
    if declared is not None and module.version != declared:
        raise BinaryMismatch(
            f"The file says version {module.version}, the form says {declared}. "
            f"Correct the form, or compile with PRODUCT_VERSION({declared}).",
            reason="VERSION_MISMATCH",
        )
    return module.version


def _must_name(product_id: int, module: Module, allow_generic: bool) -> None:
    if module.product_id is None:
        raise BinaryMismatch(
            f"The file carries no product ID. Add PRODUCT_ID({product_id}) to the source and compile it again.", reason="NO_PRODUCT_ID"
        )
    if module.is_generic and not allow_generic:
        raise BinaryMismatch(
            f"The file names its platform, {particle_name(module.platform_id)}, and not product {product_id}. "
            f"Compile it with that product ID, or allow generic firmware in the product.",
            reason="GENERIC_NOT_ALLOWED",
        )
    if not module.is_generic and module.product_id != product_id:
        raise BinaryMismatch(
            f"The file is for product {module.product_id}, this is product {product_id}. Compile it with PRODUCT_ID({product_id}).",
            reason="PRODUCT_MISMATCH",
        )


def _facts(module: Module) -> dict[str, int | str | None]:
    return {
        "platformId": module.platform_id,
        "function": module.prefix.function,
        "index": module.prefix.index,
        "apiLevel": module.prefix.api_level,
        "flags": module.prefix.flags,
        "prefixOffset": module.prefix.offset,
        "suffixBytes": module.suffix_bytes,
        "crc32": f"{module.crc32:08x}",
        "moduleSha256": module.sha256,
        "unpackedBytes": module.unpacked_bytes,
    }
