"""Decides whether a file may be a product's firmware: the part of the upload gate that needs only the file and the form."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from errors import BinaryInvalid, BinaryMismatch
from firmware_formats import particle
from firmware_formats.detect import KIND_NAMES, Kind, kind_of
from firmware_formats.particle import Content, Module, Unreadable
from firmware_formats.platforms import DEFAULT_MAX_BYTES, PARTICLE_ID, FirmwareFormat, Platform, particle_name, size_cap


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
    version: int | None,
    allow_generic: bool,
    settings_max: int = DEFAULT_MAX_BYTES,
) -> Verdict:
    """Apply the gate's rules in their order; the first one broken answers.

    `version` is the declared one; None takes the file's. `settings_max` is in bytes. It computes for milliseconds a
    megabyte, so callers on an event loop run it in a thread.
    Raises BinaryInvalid (no binary this product can run) or BinaryMismatch (another one than the form says) with `reason`.
    Source: guide, "Preparing a binary" and "Uploading firmware".
    """
    cap = size_cap(platform, settings_max)
    if len(content) > cap:
        raise BinaryInvalid(f"The file has {len(content)} bytes; {platform} takes at most {cap}. Make it smaller.", reason="TOO_LARGE")
    if Platform(platform) not in PARTICLE_ID:
        return _judge_opaque(content, version)  # the readers of ESP32, MCUBOOT and OTHER take their places here
    return _judge_particle(content, Platform(platform), product_id, version, allow_generic, cap)


def _judge_opaque(content: Content, version: int | None) -> Verdict:
    if len(content) == 0:
        raise BinaryInvalid("The file is empty. Upload the file that the build wrote.", reason="BAD_LENGTH")
    if version is None:
        raise BinaryMismatch("The file is not read for a version on this platform. Say which version it is.", reason="NO_VERSION")
    return Verdict(FirmwareFormat.OPAQUE, False, version)


def _judge_particle(content: Content, platform: Platform, product_id: int, version: int | None, allow_generic: bool, cap: int) -> Verdict:
    _must_be_a_module(content, platform)
    try:
        module = particle.read(content, unpacked_max=cap)
    except Unreadable as refusal:
        raise BinaryInvalid(refusal.message, reason=refusal.reason) from None
    _must_be_an_application(module)
    _must_be_for(platform, module)
    found = _version_of(module, version)
    _must_name(product_id, module, allow_generic)
    return Verdict(FirmwareFormat.PARTICLE, not module.is_generic, found, found, module.product_id, str(found), _facts(module))


def _must_be_a_module(content: Content, platform: Platform) -> None:
    """Content of no known format goes on to the reader, whose refusal says more than "another format"."""
    kind = kind_of(content)
    if kind is Kind.BUNDLE:
        raise BinaryInvalid("Bundles with assets are not taken yet. Upload the application's .bin alone.", reason="UNSUPPORTED")
    if kind not in (Kind.PARTICLE, Kind.OPAQUE):
        raise BinaryInvalid(
            f"The file is {KIND_NAMES[kind]}; {platform} runs {KIND_NAMES[Kind.PARTICLE]}. Upload the .bin built for it.",
            reason="WRONG_FORMAT",
        )


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
