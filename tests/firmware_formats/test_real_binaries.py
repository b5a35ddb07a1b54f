"""Real firmware from two public packages of the vendor (Apache-2.0, fetched, never committed): we read it as its reader does."""

import hashlib

import pytest

from firmware_formats.building import restamp
from firmware_formats.particle import read
from firmware_formats.unreadable import Unreadable
from tests import real_binaries
from tests.firmware_formats import npm_peer
from tests.firmware_formats.test_building import as_the_vendor_says_it

# name: function, platform, product id, version, suffix bytes, prefix offset (None: nothing said)
SAID = {
    "040_system-part1.bin": (4, 6, None, None, 36, 0x184),
    "040_system-part2.bin": (4, 6, None, None, 36, 0x184),
    "040_user-part.bin": (5, 6, None, None, 36, 0),
    "043_system-part1.bin": (4, 6, None, None, 40, 0x184),
    "043_system-part2.bin": (4, 6, None, None, 40, 0x184),
    "043_user-part.bin": (5, 6, None, None, 40, 0),
    "044_Core_Tinker_P5_V10.bin": (3, 0, 5, 10, 40, 0x10C),
    "103_system-part1.bin": (4, 103, None, None, 40, 0xC0),
    "RC4_unlocker.bin": (3, 6, None, None, 36, 0x184),
    "core_tinker.bin": (3, 0, 0, 3, 40, 0x10C),
    "electron_tinker.bin": (5, 10, 10, 2, 40, 0),
    "tinker-0.4.5-p1.bin": (5, 8, 8, 2, 40, 0),
    "tinker-0.4.5-photon.bin": (5, 6, 6, 2, 40, 0),
    "tinker-0.8.0-rc.27-argon.bin": (5, 12, 12, 3, 40, 0),
    "tinker-0.8.0-rc.27-boron.bin": (5, 13, 13, 3, 40, 0),
    "tinker-0.8.0-rc.27-xenon.bin": (5, 14, 14, 3, 40, 0),
    "tinker-1.1.0-rc.1-bsom.bin": (5, 23, 23, 3, 40, 0),
    "tinker-1.5.0-b5som.bin": (5, 25, 25, 3, 40, 0),
    "tinker-5.0.0-p2.bin": (5, 32, 32, 4, 62, 0),
    "tinker-5.8.0-trackerm.bin": (5, 28, 28, 4, 62, 0),
    "tinker-6.3.4-esomx.bin": (5, 15, 15, 3, 40, 0),
    "tinker-6.3.4-msom.bin": (5, 35, 35, 4, 62, 0),
    "tinker-usb-debugging-0.6.0-electron.bin": (5, 10, 10, 3, 40, 0),
    "tracker-tinker@1.5.4-rc.1.bin": (5, 26, 26, 3, 40, 0),
}
REFUSED = {
    "RC2_bootloader.bin": "BAD_LENGTH",
    "RC4_bootloader_pad_BM-09.bin": "BAD_LENGTH",
    "RC4_bootloader_pad_BM-14.bin": "BAD_LENGTH",
    "emptybin.bin": "NOT_A_MODULE",
}


@pytest.fixture(scope="module")
def binaries() -> dict[str, bytes]:
    return real_binaries.read_all()


def test_every_real_module_says_what_was_measured(binaries: dict[str, bytes]) -> None:
    said = {}
    for name in SAID:
        module = read(binaries[name])
        said[name] = (
            module.prefix.function,
            module.platform_id,
            module.product_id,
            module.version,
            module.suffix_bytes,
            module.prefix.offset,
        )

    assert said == SAID
    assert set(binaries) == set(SAID) | set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_whole_module_is_refused(name: str, binaries: dict[str, bytes]) -> None:
    with pytest.raises(Unreadable) as caught:
        read(binaries[name])

    assert caught.value.reason == REFUSED[name]


def test_the_vendors_reader_agrees_on_every_real_module(binaries: dict[str, bytes]) -> None:
    names = list(SAID)

    theirs = npm_peer.read(*(binaries[name] for name in names))

    assert dict(zip(names, theirs, strict=True)) == {name: as_the_vendor_says_it(binaries[name]) for name in names}


def test_the_vendors_reader_finds_every_file_unsound_that_we_refuse(binaries: dict[str, bytes]) -> None:
    theirs = npm_peer.read(*(binaries[name] for name in REFUSED))

    assert ["error" in said or not said["crcOk"] for said in theirs] == [True] * len(REFUSED)


def test_every_real_application_with_room_can_be_restamped(binaries: dict[str, bytes]) -> None:
    stamped = {n: restamp(binaries[n], 1000, 7) for n, (function, *_, suffix, _o) in SAID.items() if function in (3, 5) and suffix >= 40}

    assert len(stamped) == 17
    for name, binary in stamped.items():
        assert (read(binary).product_id, read(binary).version) == (1000, 7), name
        assert len(binary) == len(binaries[name])
    assert [s["product"] for s in npm_peer.read(*stamped.values())] == [1000] * 17


def test_the_2015_core_application_is_the_file_that_was_measured(binaries: dict[str, bytes]) -> None:
    core = binaries["044_Core_Tinker_P5_V10.bin"]

    assert (len(core), read(core).sha256) == (88_292, hashlib.sha256(core[:-38]).hexdigest())
