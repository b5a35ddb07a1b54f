"""ESP32, MCUboot and fwup: what a sound image says, each way to be unsound, and when the file itself names product and version."""

import struct
import uuid

import pytest

from errors import BinaryInvalid, BinaryMismatch, CallerError
from firmware_formats import fwup
from firmware_formats.gate import Verdict, judge
from firmware_formats.platforms import FirmwareFormat
from tests.firmware_formats import images, maker

SIZE = 16 << 20


def judged(content: bytes, platform: str, version: int | None = 7) -> Verdict:
    return judge(content, platform=platform, product_id=1000, slug="lamp", version=version, allow_generic=False)


def refused(content: bytes, platform: str, reason: str, error: type[CallerError] = BinaryInvalid, version: int | None = 7) -> str:
    with pytest.raises(error) as caught:
        judged(content, platform, version)
    assert (type(caught.value), caught.value.reason) == (error, reason)
    return caught.value.message


NAMED = {
    "ESP32": lambda version, product: images.esp32(version.encode(), product.encode()),
    "MCUBOOT": lambda version, product: images.mcuboot((1, 2, 3, int(version)), product=product),
    "OTHER": lambda version, product: images.fwup(version=version, product=product),
}
FORMAT = {"ESP32": FirmwareFormat.ESP32, "MCUBOOT": FirmwareFormat.MCUBOOT, "OTHER": FirmwareFormat.FWUP}


@pytest.mark.parametrize("platform", NAMED)
def test_a_file_that_names_product_and_version_is_verified_and_one_that_does_not_is_taken_unverified(platform: str) -> None:
    ours, anothers = judged(NAMED[platform]("7", "lamp"), platform), judged(NAMED[platform]("7", "door"), platform)

    assert (ours.format, ours.verified, ours.version, ours.found_version) == (FORMAT[platform], True, 7, 7)
    assert (anothers.format, anothers.verified, anothers.version) == (FORMAT[platform], False, 7)
    assert judged(NAMED[platform]("41", "lamp"), platform, version=None).version == 41


@pytest.mark.parametrize("platform", NAMED)
def test_a_plain_number_that_is_another_than_declared_is_refused_and_says_both(platform: str) -> None:
    message = refused(NAMED[platform]("8", "lamp"), platform, "VERSION_MISMATCH", BinaryMismatch)

    assert "version 8" in message
    assert "says 7" in message


@pytest.mark.parametrize("platform", ["ESP32", "OTHER"])
@pytest.mark.parametrize("version", ["v5.0-4-g4532e6", "1.2.3", "", "7 ", "-7"])
def test_another_text_for_the_version_is_shown_and_does_not_verify(platform: str, version: str) -> None:
    verdict = judged(NAMED[platform](version, "lamp"), platform)

    assert (verdict.verified, verdict.version, verdict.found_version, verdict.display_version) == (False, 7, None, version or None)
    assert repr(version)[1:-1] in refused(NAMED[platform](version, "lamp"), platform, "NO_VERSION", BinaryMismatch, version=None)


@pytest.mark.parametrize("platform", NAMED)
@pytest.mark.parametrize("version", ["0", "65535", "70000"])
def test_a_version_that_no_product_can_have_is_not_taken_from_the_file(platform: str, version: str) -> None:
    refused(NAMED[platform](version, "lamp"), platform, "NO_VERSION", BinaryMismatch, version=None)


# ── ESP32 ──
def test_an_esp32_image_says_for_which_chip_it_was_built_and_by_what() -> None:
    facts = judged(images.esp32(chip=9), "ESP32").facts

    assert (facts["chip"], facts["projectName"], facts["idfVersion"], facts["secureVersion"]) == ("esp32s3", "lamp", "v5.3", 3)
    assert (facts["built"], facts["signatureSector"]) == ("Nov 22 2026 12:00:00", 0)
    assert "chip 77" in refused(images.esp32(chip=77), "ESP32", "PLATFORM_MISMATCH", BinaryMismatch)


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 255, 256, 1000, 4096])
def test_an_esp32_image_of_any_length_with_and_without_a_digest_is_read(size: int) -> None:
    code = bytes(n * 7 % 256 for n in range(size))

    for digest in (False, True):
        assert judged(images.esp32(segments=(code, b"", code[:3]), digest=digest), "ESP32").verified is True


def test_an_esp32_image_may_end_in_a_sector_with_a_signature_made_for_it() -> None:
    signed = images.with_sector(images.esp32())

    assert judged(signed, "ESP32").facts["signatureSector"] == 1
    refused(maker.changed(signed, -images.SECTOR + 10, b"\0\0"), "ESP32", "BAD_DIGEST")
    refused(maker.changed(signed, -images.SECTOR - 1, b"\0"), "ESP32", "BAD_LENGTH")
    refused(maker.changed(signed, -images.SECTOR, b"\0"), "ESP32", "BAD_LENGTH")
    refused(signed + b"\xff", "ESP32", "BAD_LENGTH")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "NOT_A_MODULE"),
        (b"MZ" + bytes(4000), "NOT_A_MODULE"),
        (maker.changed(images.esp32(), 0x20, b"\0"), "NOT_A_MODULE"),
        (maker.changed(images.esp32(), 1, b"\0"), "NOT_A_MODULE"),
        (maker.changed(images.esp32(), 1, b"\x11"), "NOT_A_MODULE"),
        (maker.changed(images.esp32(), 23, b"\x02"), "NOT_A_MODULE"),
        (images.esp32()[:200], "NOT_A_MODULE"),
        (maker.changed(images.esp32(), 1, b"\x10"), "BAD_LENGTH"),
        (maker.changed(images.esp32(), 28, b"\xff\xff\xff\xff"), "BAD_LENGTH"),
        (images.esp32()[:-1], "BAD_LENGTH"),
        (images.esp32()[:-40], "BAD_LENGTH"),
        (images.esp32() + b"\xff", "BAD_LENGTH"),
        (images.esp32() + bytes(4096), "BAD_LENGTH"),
        (maker.changed(images.esp32(), 400, b"\1"), "BAD_CRC"),
        (maker.changed(images.esp32(), -33, b"\1"), "BAD_CRC"),
        (maker.changed(images.esp32(), 400, b"\1\1"), "BAD_CRC"),
        (maker.changed(images.esp32(), 8, b"\1"), "BAD_DIGEST"),
        (maker.changed(images.esp32(), -1, b"\1"), "BAD_DIGEST"),
    ],
)
def test_an_esp32_image_that_is_unsound_is_refused(content: bytes, reason: str) -> None:
    refused(content, "ESP32", reason)


# ── MCUboot ──
def test_an_mcuboot_image_is_a_products_by_its_slug_in_the_class_uuid() -> None:
    verdict = judged(images.mcuboot((1, 2, 3, 7)), "MCUBOOT")

    assert (verdict.display_version, verdict.facts["vendorId"]) == ("1.2.3+7", str(images.VENDOR))
    assert verdict.facts["classId"] == str(uuid.uuid5(images.VENDOR, "lamp"))
    assert judged(images.mcuboot(vendor=uuid.uuid4()), "MCUBOOT").verified is True
    assert judged(images.mcuboot(vendor=None), "MCUBOOT").verified is False
    only_class = images.area(0x6908, images.record(0x75, uuid.uuid5(images.VENDOR, "lamp").bytes))
    assert judged(images.mcuboot(protected=only_class), "MCUBOOT").verified is False


def test_a_uuid_that_nothing_protects_does_not_verify() -> None:
    outside = images.record(0x74, images.VENDOR.bytes) + images.record(0x75, uuid.uuid5(images.VENDOR, "lamp").bytes)

    assert judged(images.mcuboot(vendor=None, behind=outside), "MCUBOOT").verified is False


def test_an_mcuboot_image_without_a_build_number_is_taken_unverified() -> None:
    verdict = judged(images.mcuboot((1, 2, 3, 0)), "MCUBOOT")

    assert (verdict.verified, verdict.version, verdict.display_version) == (False, 7, "1.2.3")


def test_an_mcuboot_image_may_have_a_longer_header_signatures_and_padding() -> None:
    signed = images.mcuboot(header_bytes=512, behind=images.record(0x01, bytes(32)) + images.record(0x24, bytes(64)))

    assert judged(signed + b"\xff" * 5000, "MCUBOOT").verified is True
    refused(signed + b"\xff\xff\0", "MCUBOOT", "BAD_LENGTH")


UUID_RECORD = images.record(0x74, images.VENDOR.bytes)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "NOT_A_MODULE"),
        (images.mcuboot()[:31], "NOT_A_MODULE"),
        (images.mcuboot(header_bytes=8).ljust(99, b"\0"), "NOT_A_MODULE"),
        (maker.changed(images.mcuboot(vendor=None), 32 + 800, b"\x08"), "NOT_A_MODULE"),
        (maker.changed(images.mcuboot(vendor=None), 32 + 802, b"\x03\0"), "NOT_A_MODULE"),
        (maker.changed(images.mcuboot(), 10, b"\x05"), "NOT_A_MODULE"),
        (images.mcuboot(protected=images.area(0x6908, b"\x74\0\xff\xff")), "NOT_A_MODULE"),
        (images.mcuboot(protected=images.area(0x6908, b"\x74")), "NOT_A_MODULE"),
        (images.mcuboot(protected=images.area(0x6908, UUID_RECORD, UUID_RECORD)), "NOT_A_MODULE"),
        (images.mcuboot(protected=images.area(0x6908, images.record(0x74, b"short"))), "NOT_A_MODULE"),
        (images.mcuboot(behind=images.record(0x10, bytes(32))), "NOT_A_MODULE"),
        (images.mcuboot(flags=0x04), "UNSUPPORTED"),
        (images.mcuboot(flags=0x08), "UNSUPPORTED"),
        (images.mcuboot(flags=0x400), "UNSUPPORTED"),
        (images.mcuboot(flags=0x10), "NOT_APPLICATION"),
        (maker.changed(images.mcuboot(vendor=None), 32 + 804, b"\x11"), "UNSUPPORTED"),
        (images.mcuboot()[:-1], "BAD_LENGTH"),
        (images.mcuboot()[:500], "BAD_LENGTH"),
        (maker.changed(images.mcuboot(), 12, b"\xff\xff\xff\xff"), "BAD_LENGTH"),
        (images.mcuboot() + b"\0", "BAD_LENGTH"),
        (maker.changed(images.mcuboot(), 100, b"\1"), "BAD_DIGEST"),
        (maker.changed(images.mcuboot(), 24, b"\x09"), "BAD_DIGEST"),
        (maker.changed(images.mcuboot(), -1, b"\1"), "BAD_DIGEST"),
    ],
)
def test_an_mcuboot_image_that_is_unsound_is_refused(content: bytes, reason: str) -> None:
    refused(content, "MCUBOOT", reason)


# ── fwup ──
def test_a_fwup_archive_says_what_stands_at_the_top_of_its_meta_conf_and_not_in_its_tasks() -> None:
    package = fwup.read(images.fwup(version='1.2 "x"'.replace('"', '\\"')))

    assert (package.version, package.product, package.platform, package.resources) == ('1.2 "x"', "lamp", "rpi0", 2)
    assert package.is_signed is False


def archive(files: dict[str, bytes], *, meta: str | None = None) -> bytes:
    return images.zipped({"meta.conf": (images.meta_conf({"a": b"one"}) if meta is None else meta).encode(), **files})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (archive({"data/a": b"two"}), "BAD_DIGEST"),
        (archive({}), "BAD_LENGTH"),
        (archive({"data/a": b"one", "data/b": b"?"}), "UNSUPPORTED"),
        (archive({"data/a": b"one", "../b": b"?"}), "UNSUPPORTED"),
        (archive({"data/a": b"one"})[:-1], "BAD_LENGTH"),
        (archive({"data/a": b"one"})[:200], "BAD_LENGTH"),
        (archive({"data/a": b"one"}) + b"\0", "BAD_LENGTH"),
        (archive({"data/a": b"one"}, meta='file-resource "a" {}'), "NOT_A_MODULE"),
        (archive({}, meta="meta-version = {"), "NOT_A_MODULE"),
        (archive({}, meta="}"), "NOT_A_MODULE"),
        (archive({}, meta='meta-version="7'), "NOT_A_MODULE"),
        (archive({}, meta="/* no end"), "NOT_A_MODULE"),
        (archive({}, meta="\n" * (1 << 19)), "NOT_A_MODULE"),
        (images.zipped({"meta.conf": b"\xff\xfe"}), "NOT_A_MODULE"),
        (images.zipped({"meta.conf.ed25519": bytes(64)}), "NOT_A_MODULE"),
        (images.fwup({"a": bytes(8 * SIZE)}), "TOO_LARGE"),
    ],
)
def test_a_fwup_archive_that_is_unsound_is_refused(content: bytes, reason: str) -> None:
    refused(content, "OTHER", reason)


def test_lists_and_functions_in_a_meta_conf_are_passed_over() -> None:
    meta = 'meta-version="7"\nmeta-product="lamp"\nlength={1, 2, 3}\nif(a, "b") { meta-product="no" }\nx += { "y" }\nmeta-platform = a\n'

    verdict = judged(archive({}, meta=meta), "OTHER")

    assert (verdict.verified, verdict.facts["platform"]) == (True, "a")


def test_the_fields_stand_where_the_layout_says() -> None:
    """Against offsets written down by hand, so that reader and builder can't be wrong together."""
    esp, mcu = images.esp32(b"7", b"lamp", chip=9), images.mcuboot((1, 2, 3, 7))

    assert (esp[0], esp[0x20 + 16 : 0x20 + 18], esp[0x20 + 48 : 0x20 + 53]) == (0xE9, b"7\0", b"lamp\0")
    assert (struct.unpack_from("<H", esp, 12), esp[23], esp[0x20:0x24]) == ((9,), 1, struct.pack("<I", 0xABCD5432))
    assert struct.unpack_from("<IIHHII", mcu)[2:4] == (32, 44)
    assert struct.unpack_from("<BBHI", mcu, 20) == (1, 2, 3, 7)


def test_a_fwup_archive_may_unpack_to_eight_times_the_largest_file() -> None:
    """An image of a disk is mostly empty, and is hashed piece by piece."""
    assert judged(images.fwup({"rootfs.img": bytes(2 * SIZE)}), "OTHER").verified is True
