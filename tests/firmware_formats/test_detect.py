"""Kinds are told by content alone, in a fixed order."""

import struct

import pytest

from firmware_formats.detect import Kind, kind_of
from firmware_formats.particle import Flag
from tests.firmware_formats import images, maker


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (maker.zipped("application.bin", "assets/picture.png"), Kind.BUNDLE),
        (maker.zipped("meta.conf", "data/rootfs.img"), Kind.FWUP),
        (maker.zipped("meta.conf", "application.bin"), Kind.BUNDLE),
        (maker.zipped("build/application.bin"), Kind.OPAQUE),
        (maker.zipped("application.bin")[:-10], Kind.BUNDLE),
        (images.mcuboot(), Kind.MCUBOOT),
        (images.esp32(), Kind.ESP32),
        (images.esp32()[:0x23], Kind.OPAQUE),
        (images.fwup(), Kind.FWUP),
        (images.fwup()[:300], Kind.FWUP),
        (images.bundle(), Kind.BUNDLE),
        (maker.uf2(), Kind.UF2),
        (maker.sound(), Kind.PARTICLE),
        (maker.sound(vector_table=0x184), Kind.PARTICLE),
        (maker.sound()[:-1], Kind.PARTICLE),
        (maker.flagged(Flag.COMBINED), Kind.PARTICLE),
        (b"", Kind.OPAQUE),
        (b"P", Kind.OPAQUE),
        (b"<html></html>" * 50, Kind.OPAQUE),
    ],
)
def test_the_content_tells_the_kind(content: bytes, kind: Kind) -> None:
    assert kind_of(content) is kind


def test_a_directory_of_more_names_than_a_bundle_may_have_is_not_walked_on() -> None:
    assert kind_of(maker.zipped(*(f"assets/{n}" for n in range(256)), "application.bin")) is Kind.OPAQUE


def test_of_a_directory_that_points_outside_the_file_the_first_entry_is_asked_for_its_name() -> None:
    for name, kind in [("application.bin", Kind.BUNDLE), ("meta.conf", Kind.FWUP), ("notes.txt", Kind.OPAQUE)]:
        content = maker.zipped(name)
        assert kind_of(content[:-6] + struct.pack("<I", 0xFFFFFFFF) + content[-2:]) is kind
