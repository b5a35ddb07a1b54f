"""The upload gate: each rule refuses with its own reason, the first one broken answers, and the sentence helps."""

import pytest

from errors import BinaryInvalid, BinaryMismatch, CallerError
from firmware_formats.building import particle_binary
from firmware_formats.gate import Verdict, judge
from firmware_formats.particle import Flag
from firmware_formats.platforms import PARTICLE_ID, FirmwareFormat, Platform, size_cap
from tests.firmware_formats import images, maker

KIB = 1024


def judged(
    content: bytes,
    *,
    platform: str = "PHOTON",
    product_id: int = 1000,
    version: int | None = 7,
    allow_generic: bool = False,
    settings_max: int = 16 * KIB * KIB,
) -> Verdict:
    form = {"product_id": product_id, "version": version, "allow_generic": allow_generic}
    return judge(content, platform=platform, slug="lamp", settings_max=settings_max, **form)  # type: ignore[arg-type]  # the form's keywords


def refused(content: bytes, error: type[CallerError], reason: str, **form: object) -> str:
    with pytest.raises(error) as caught:
        judged(content, **form)  # type: ignore[arg-type]  # the form's own keywords
    assert (type(caught.value), caught.value.reason) == (error, reason)
    return caught.value.message


@pytest.mark.parametrize("platform", PARTICLE_ID)
def test_a_binary_that_names_product_and_version_is_verified(platform: Platform) -> None:
    verdict = judged(particle_binary(1000, 7, PARTICLE_ID[platform]), platform=platform)

    assert (verdict.format, verdict.verified, verdict.version) == (FirmwareFormat.PARTICLE, True, 7)
    assert (verdict.found_version, verdict.found_product_id, verdict.display_version) == (7, 1000, "7")
    assert verdict.facts["platformId"] == PARTICLE_ID[platform]


def test_the_highest_product_and_version_are_taken() -> None:
    assert judged(maker.sound(65534, 65534), product_id=65534, version=65534).verified is True


def test_a_version_left_out_is_taken_from_the_file() -> None:
    assert judged(maker.sound(version=41), version=None).version == 41


def test_a_compressed_module_is_accepted() -> None:
    assert judged(maker.sound(compressed=True)).verified is True


def test_generic_firmware_is_accepted_unverified_where_the_product_allows_it() -> None:
    verdict = judged(maker.sound(product_id=6), allow_generic=True)

    assert (verdict.verified, verdict.found_product_id, verdict.version) == (False, 6, 7)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (maker.sound(size=128 * KIB), "TOO_LARGE"),
        (images.esp32(), "WRONG_FORMAT"),
        (images.mcuboot(), "WRONG_FORMAT"),
        (maker.uf2(), "WRONG_FORMAT"),
        (maker.zipped("meta.conf"), "WRONG_FORMAT"),
        (b"", "NOT_A_MODULE"),
        (b"\x7fELF" + bytes(4000), "NOT_A_MODULE"),
        (maker.with_suffix(b"\x12\0\0\0" + bytes(4)), "NOT_A_MODULE"),
        (maker.zipped("application.bin", "assets/a"), "NOT_A_MODULE"),
        (maker.combined(), "UNSUPPORTED"),
        (maker.flagged(Flag.ENCRYPTED), "UNSUPPORTED"),
        (maker.packed(bytes(9), method=3), "UNSUPPORTED"),
        (maker.packed(bytes(128 * KIB + 1)), "TOO_LARGE"),
        (maker.sound()[:-8], "BAD_LENGTH"),
        (maker.recrc(maker.sound() + bytes(8)), "BAD_LENGTH"),
        (maker.changed(maker.sound(), 300, b"\0\1\2"), "BAD_CRC"),
        (maker.changed(maker.sound(), -44, b"\xe9\x03"), "BAD_CRC"),
        (maker.sound(function=4), "NOT_APPLICATION"),
        (maker.sound(function=2), "NOT_APPLICATION"),
        (maker.recrc(maker.changed(maker.sound(), -44, b"\xe9\x03")), "BAD_DIGEST"),
    ],
)
def test_what_the_product_cannot_run_is_binary_invalid(content: bytes, reason: str) -> None:
    refused(content, BinaryInvalid, reason)


@pytest.mark.parametrize(
    ("content", "reason", "found", "expected"),
    [
        (maker.sound(platform_id=8), "PLATFORM_MISMATCH", "P1 (8)", "Photon (6)"),
        (maker.sound(platform_id=103), "PLATFORM_MISMATCH", "Bluz (103)", "Photon (6)"),
        (maker.sound(version=65535), "NO_VERSION", "no version", "PRODUCT_VERSION(7)"),
        (maker.sound(version=0), "NO_VERSION", "no version", "PRODUCT_VERSION(7)"),
        (maker.sound(suffix_bytes=36), "NO_VERSION", "no version", "PRODUCT_VERSION(7)"),
        (maker.sound(version=8), "VERSION_MISMATCH", "version 8", "says 7"),
        (maker.sound(product_id=65535), "NO_PRODUCT_ID", "no product ID", "PRODUCT_ID(1000)"),
        (maker.sound(product_id=6), "GENERIC_NOT_ALLOWED", "Photon (6)", "product 1000"),
        (maker.sound(product_id=1001), "PRODUCT_MISMATCH", "product 1001", "product 1000"),
        (maker.sound(product_id=8), "PRODUCT_MISMATCH", "product 8", "product 1000"),
    ],
)
def test_what_contradicts_the_form_is_binary_mismatch_and_says_both(content: bytes, reason: str, found: str, expected: str) -> None:
    message = refused(content, BinaryMismatch, reason)

    assert found in message
    assert expected in message


def test_allowing_generic_firmware_allows_no_other_product() -> None:
    refused(maker.sound(product_id=1001), BinaryMismatch, "PRODUCT_MISMATCH", allow_generic=True)
    refused(maker.sound(product_id=65535), BinaryMismatch, "NO_PRODUCT_ID", allow_generic=True)


def test_the_first_rule_broken_answers() -> None:
    """Each step repairs the rule that answered before it; the rest stays broken."""
    nothing_right = {"product_id": 1001, "version": 9, "platform_id": 8}
    part = maker.sound(function=4, **nothing_right)

    refused(part + bytes(128 * KIB), BinaryInvalid, "TOO_LARGE")
    refused(maker.changed(part, 300, b"\0\1\2")[:-1], BinaryInvalid, "BAD_LENGTH")
    refused(maker.changed(part, 300, b"\0\1\2"), BinaryInvalid, "BAD_CRC")
    refused(part, BinaryInvalid, "NOT_APPLICATION")
    refused(maker.recrc(maker.changed(maker.sound(**nothing_right), 300, b"\0\1\2")), BinaryInvalid, "BAD_DIGEST")
    refused(maker.sound(**nothing_right), BinaryMismatch, "PLATFORM_MISMATCH")
    refused(maker.sound(product_id=1001, version=65535), BinaryMismatch, "NO_VERSION")
    refused(maker.sound(product_id=1001, version=9), BinaryMismatch, "VERSION_MISMATCH")
    refused(maker.sound(product_id=1001), BinaryMismatch, "PRODUCT_MISMATCH")


def test_a_known_format_of_another_platform_is_named_in_the_refusal() -> None:
    message = refused(images.esp32(), BinaryInvalid, "WRONG_FORMAT")

    assert message == "The file is an ESP32 application; PHOTON runs a Particle module. Upload the one built for it."


@pytest.mark.parametrize(
    "content", [b"anything", b"hsqs" + bytes(4000), maker.zipped("notes.txt"), maker.sound()[:-1], maker.zipped("a.bin", "b.dat")]
)
def test_what_has_no_format_of_ours_is_taken_by_the_platform_other_alone_and_never_verified(content: bytes) -> None:
    assert judged(content, platform="OTHER") == Verdict(FirmwareFormat.OPAQUE, verified=False, version=7)
    for platform in ("ESP32", "MCUBOOT", "PHOTON"):
        with pytest.raises(BinaryInvalid):
            judged(content, platform=platform)


SOUND = {
    "PHOTON": maker.sound(),
    "ESP32": images.esp32(),
    "MCUBOOT": images.mcuboot(),
    "OTHER": images.fwup(),
    "a bundle": images.bundle(),
    "a UF2 file": maker.uf2(),
}


@pytest.mark.parametrize("platform", ["PHOTON", "ESP32", "MCUBOOT", "OTHER"])
@pytest.mark.parametrize("made_for", SOUND)
def test_the_platform_fixes_the_format(platform: str, made_for: str) -> None:
    if platform == made_for or (platform, made_for) == ("PHOTON", "a bundle"):
        assert judged(SOUND[made_for], platform=platform).verified is True
    else:
        refused(SOUND[made_for], BinaryInvalid, "WRONG_FORMAT", platform=platform)


def test_opaque_files_need_a_declared_version_and_bytes() -> None:
    refused(b"anything", BinaryMismatch, "NO_VERSION", platform="OTHER", version=None)
    refused(b"", BinaryInvalid, "BAD_LENGTH", platform="OTHER")


@pytest.mark.parametrize(
    ("platform", "cap"),
    [(p, 128 * KIB) for p in ("CORE", "PHOTON", "P0", "P1", "ELECTRON", "XENON")]
    + [(p, 256 * KIB) for p in ("ARGON", "BORON", "TRACKER")]
    + [(p, 1536 * KIB) for p in ("P2", "MSOM")]
    + [(p, 16 * KIB * KIB) for p in ("ESP32", "MCUBOOT", "OTHER")],
)
def test_each_platform_has_its_cap_and_the_setting_lowers_it(platform: str, cap: int) -> None:
    assert size_cap(platform) == cap
    assert size_cap(platform, 100 * KIB) == 100 * KIB


def test_a_file_of_exactly_the_cap_is_taken() -> None:
    full = maker.sound(size=128 * KIB - 24 - 44)

    assert len(full) == 128 * KIB
    assert judged(full).verified is True
    refused(full, BinaryInvalid, "TOO_LARGE", settings_max=128 * KIB - 1)


def test_no_single_changed_byte_goes_unnoticed() -> None:
    binary = maker.sound(size=64)

    for at in range(len(binary)):
        with pytest.raises(BinaryInvalid):
            judged(maker.changed(binary, at, bytes([binary[at] ^ 0xFF])))
