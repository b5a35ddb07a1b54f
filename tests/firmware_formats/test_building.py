"""Modules we build and re-stamp: the vendor's reader accepts ours, and we accept the vendor's."""

import pytest

from errors import CallerError
from firmware_formats.building import particle_binary, restamp
from firmware_formats.gate import judge
from firmware_formats.particle import read
from firmware_formats.unreadable import Unreadable
from tests.firmware_formats import maker, npm_peer

SHAPES = [
    {"vector_table": vector_table, "suffix_bytes": suffix_bytes, "compressed": compressed}
    for vector_table in (0, 0x200, 0x184, 0xC0, 0x10C)
    for suffix_bytes in (36, 40, 62)
    for compressed in (False, True)
]


def test_the_same_arguments_give_the_same_bytes_and_another_version_gives_others() -> None:
    assert particle_binary(1000, 7, 6) == particle_binary(1000, 7, 6)
    assert particle_binary(1000, 7, 6)[24:1000] != particle_binary(1000, 8, 6)[24:1000]


@pytest.mark.parametrize("shape", [s for s in SHAPES if s["suffix_bytes"] != 36 and not s["compressed"]])
def test_restamping_changes_product_and_version_and_nothing_else(shape: dict[str, int]) -> None:
    before = maker.sound(**shape)

    after = restamp(before, 2000, 65534)

    assert (read(after).product_id, read(after).version) == (2000, 65534)
    assert after[:-44] == before[:-44]
    assert restamp(after, 1000, 7) == before


def test_restamping_refuses_what_has_no_place_for_it() -> None:
    for binary, reason in [
        (maker.sound(suffix_bytes=36), "NOT_A_MODULE"),
        (maker.sound(compressed=True), "UNSUPPORTED"),
        (maker.sound()[:-1], "BAD_LENGTH"),
    ]:
        with pytest.raises(Unreadable) as caught:
            restamp(binary, 2000, 1)
        assert caught.value.reason == reason


def test_the_vendors_reader_reads_ours_as_we_do() -> None:
    ours = [maker.sound(**shape) for shape in SHAPES]
    ours += [maker.sound(size=n) for n in (1, 3, 100_000)]
    ours += [
        maker.with_prefix_extensions(b"\x11\0\x07\0app" + maker.END),
        maker.with_suffix(b"\x11\0\x07\0app" + maker.END + b"\xe8\x03\x07\0"),
    ]

    theirs = npm_peer.read(*ours)

    assert len(theirs) == len(ours) == 35
    for binary, said in zip(ours, theirs, strict=True):
        assert said == as_the_vendor_says_it(binary)


def test_we_read_the_vendors_as_it_does() -> None:
    options: list[dict[str, object]] = [
        {"productId": product, "productVersion": version, "platformId": platform, "addVectorTable": table, "compress": compress}
        for product, version, platform in [(1000, 7, 6), (65534, 65534, 13), (6, 1, 6), (65535, 65535, 32)]
        for table in (False, True)
        for compress in (False, True)
    ]
    options += [{"productId": 1000, "productVersion": 7, "platformId": p, "assets": "pixels"} for p in (13, 32)]

    binaries = npm_peer.make(*options)

    for binary, said, option in zip(binaries, npm_peer.read(*binaries), options, strict=True):
        module = read(binary)
        assert said == as_the_vendor_says_it(binary)
        assert (module.product_id or 65535, module.version or 65535) == (option["productId"], option["productVersion"])
        assert (module.platform_id, module.unpacked_bytes is not None) == (option["platformId"], option.get("compress", False))


@pytest.mark.parametrize("add_vector_table", [False, True])
def test_the_gate_verifies_the_vendors_module_and_refuses_each_damaged_byte(add_vector_table: bool) -> None:
    option = {"productId": 1000, "productVersion": 7, "platformId": 6, "addVectorTable": add_vector_table, "dataSize": 32}
    (binary,) = npm_peer.make(option)
    form = {"platform": "PHOTON", "product_id": 1000, "slug": "lamp", "version": 7, "allow_generic": False}
    prefix = 0x184 if add_vector_table else 0

    assert judge(binary, **form).verified is True  # type: ignore[arg-type]  # the form's keywords
    for at, reason in [(prefix + 4, "BAD_LENGTH"), (prefix + 14, "NOT_A_MODULE"), (prefix + 24, "BAD_CRC"), (len(binary) - 1, "BAD_CRC")]:
        assert reason_of(maker.changed(binary, at, bytes([binary[at] ^ 0x40])), form) == reason
    assert reason_of(maker.changed(binary, prefix + 9, b"\x04"), form) == "UNSUPPORTED"
    assert reason_of(maker.recrc(maker.changed(binary, prefix + 14, b"\x04")), form) == "NOT_APPLICATION"
    assert reason_of(maker.recrc(maker.changed(binary, prefix + 12, b"\x08")), form) == "BAD_DIGEST"
    assert all(reason_of(maker.changed(binary, at, bytes([binary[at] ^ 1])), form) for at in range(len(binary)))


def test_a_restamped_module_of_the_vendor_is_verified_and_still_read_by_its_reader() -> None:
    (binary,) = npm_peer.make({"productId": 6, "productVersion": 3, "platformId": 6})

    stamped = restamp(binary, 1234, 5)

    assert judge(stamped, platform="PHOTON", product_id=1234, slug="lamp", version=5, allow_generic=False).verified is True
    assert npm_peer.read(stamped) == [as_the_vendor_says_it(stamped)]


def reason_of(binary: bytes, form: dict[str, object]) -> str | None:
    try:
        judge(binary, **form)  # type: ignore[arg-type]  # the form's keywords
    except CallerError as refusal:
        return refusal.reason
    return None


def as_the_vendor_says_it(binary: bytes) -> dict[str, object]:
    """Our reading in the vendor's words: -1 for a suffix without product data, 65535 for none."""
    module = read(binary)
    nothing = -1 if module.suffix_bytes < 40 else 65535
    return {
        "crcOk": True,
        "offset": module.prefix.offset,
        "platform": module.platform_id,
        "function": module.prefix.function,
        "flags": module.prefix.flags,
        "start": module.prefix.start,
        "end": module.prefix.end,
        "suffix": module.suffix_bytes,
        "sha256": module.sha256,
        "product": nothing if module.product_id is None else module.product_id,
        "version": nothing if module.version is None else module.version,
        "extensions": [e.type for e in module.extensions],
    }
