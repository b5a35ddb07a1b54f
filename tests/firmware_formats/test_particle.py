"""What is read out of a Particle module, and each way in which it may not be one."""

import mmap
import struct
import tracemalloc
import zlib

import pytest

from firmware_formats.building import extension, particle_binary, seal
from firmware_formats.particle import Extension, Flag, Module, find_prefix, read
from firmware_formats.unreadable import Unreadable
from tests.firmware_formats import maker


def refusal(binary: bytes, **options: int) -> str:
    with pytest.raises(Unreadable) as caught:
        read(binary, **options)
    assert caught.value.message.endswith(".")
    return caught.value.reason


def test_every_field_is_read_where_the_layout_says() -> None:
    binary = particle_binary(1000, 7, 6, size=100)

    module = read(binary)

    assert (module.size, len(binary)) == (24 + 100 + 40 + 4, 168)
    assert (module.product_id, module.version, module.platform_id, module.prefix.function, module.prefix.index) == (1000, 7, 6, 5, 1)
    assert (module.prefix.offset, module.prefix.file_bytes, module.suffix_bytes, module.code_offset) == (0, 168, 40, 24)
    assert module.crc32 == zlib.crc32(binary[:-4]) == struct.unpack(">I", binary[-4:])[0]
    assert module.sha256 == binary[-38:-6].hex()
    assert (module.extensions, module.unpacked_bytes, module.is_application, module.is_generic) == ((), None, True, False)


@pytest.mark.parametrize("offset", [0, 0x200, 0x184, 0xC0, 0x10C, 4, 0x400, 8 * 1024])
def test_the_prefix_is_found_behind_a_vector_table(offset: int) -> None:
    module = read(maker.sound(vector_table=offset))

    assert (module.prefix.offset, module.product_id, module.version) == (offset, 1000, 7)


@pytest.mark.parametrize("offset", [2, 8 * 1024 + 4])
def test_the_prefix_is_not_sought_between_words_or_beyond_8_kib(offset: int) -> None:
    assert refusal(maker.sound(vector_table=offset)) == "NOT_A_MODULE"


def test_a_full_score_later_in_the_file_beats_a_near_miss_before_it() -> None:
    decoy = maker.sound()[:24]
    binary = seal(decoy + bytes(0x184 - 24) + maker.sound()[:24] + bytes(200) + maker.sound()[-44:], 0x184)

    assert read(binary).prefix.offset == 0x184


def test_the_extension_form_gives_the_upper_half_as_product_id() -> None:
    module = read(particle_binary(32, 4, 32, suffix_bytes=62))

    assert (module.product_id, module.version, module.suffix_bytes) == (32, 4, 62)
    assert [e.type for e in module.extensions] == [2, 1]
    assert module.extensions[1].data == bytes.fromhex("ffff 2000 0400")
    assert module.is_generic is True


def test_extensions_before_bare_product_data_are_read_up_to_their_end() -> None:
    asset = extension(0x12, b"\0\x20" + bytes(32) + b"picture.png")

    module = read(maker.with_suffix(asset + maker.END + struct.pack("<HH", 1000, 7)))

    assert [e.type for e in module.extensions] == [0x12, 0]
    assert (module.product_id, module.version) == (1000, 7)


def test_extensions_without_an_end_stop_before_bare_product_data() -> None:
    module = read(maker.with_suffix(extension(0x11, b"tracker") + struct.pack("<HH", 1000, 7)))

    assert module.extensions == (Extension(0x11, b"tracker"),)
    assert (module.product_id, module.version) == (1000, 7)


def test_prefix_extensions_are_read_up_to_their_end() -> None:
    module = read(maker.with_prefix_extensions(extension(0x11, b"app") + maker.END))

    assert module.extensions == (Extension(0x11, b"app"), Extension(0, b""))
    assert (module.code_offset, module.product_id) == (24 + 7 + 4, 1000)


def test_what_stands_in_the_products_place_of_a_short_suffix_is_code() -> None:
    module = read(maker.sound(suffix_bytes=36))

    assert (module.product_id, module.version, module.suffix_bytes) == (None, None, 36)


@pytest.mark.parametrize(("written", "read_as"), [(0, None), (65535, None), (1, 1), (65534, 65534)])
def test_version_0_and_65535_are_none(written: int, read_as: int | None) -> None:
    assert read(maker.sound(version=written)).version == read_as


def test_product_id_65535_is_none_and_0_is_an_id() -> None:
    assert read(maker.sound(product_id=65535)).product_id is None
    assert read(maker.sound(product_id=0)).product_id == 0


@pytest.mark.parametrize("binary", [b"", b"\0" * 70, b"\xff" * 5000, b"PNG" * 4000, maker.sound()[:60]])
def test_content_without_a_prefix_is_not_a_module(binary: bytes) -> None:
    assert refusal(binary) == "NOT_A_MODULE"


@pytest.mark.parametrize(
    "binary",
    [
        maker.changed(maker.sound(), maker.PLATFORM_AT, b"\xc8\x00"),
        maker.changed(maker.sound(), maker.FUNCTION_AT, b"\x00"),
        maker.changed(maker.sound(), maker.FUNCTION_AT, b"\x0a"),
        maker.changed(maker.sound(), maker.FLAGS_AT, b"\x20"),
        maker.changed(maker.sound(), 16, b"\x0a"),
        maker.changed(maker.sound(), 16, b"\x00"),  # no dependency, yet it has an index
        maker.changed(maker.sound(), 4, b"\0\0\0\0"),  # ends before it starts
    ],
    ids=["platform", "no function", "function", "flags", "dependency", "empty dependency", "addresses"],
)
def test_a_prefix_with_an_unknown_value_is_none(binary: bytes) -> None:
    assert find_prefix(binary) is None
    assert refusal(binary) == "NOT_A_MODULE"


@pytest.mark.parametrize("suffix_bytes", [0, 35, 37, 39, 2500, 0xFFFF])
def test_a_suffix_of_impossible_size_is_not_a_module(suffix_bytes: int) -> None:
    assert refusal(maker.with_suffix(struct.pack("<HH", 1000, 7), suffix_bytes)) == "NOT_A_MODULE"


@pytest.mark.parametrize(
    "broken",
    [b"\x12\0\0\0", b"\x12\0\x03\0", b"\x12\0\xff\xff", b"\xff\xff\x04\0", b"\x12\0"],
    ids=["length 0", "length 3", "past the end", "invalid type", "cut off"],
)
def test_a_broken_extension_is_not_a_module(broken: bytes) -> None:
    assert refusal(maker.with_suffix(broken + struct.pack("<HH", 1000, 7))) == "NOT_A_MODULE"
    if len(broken) == 4:
        assert refusal(maker.with_prefix_extensions(broken + maker.END)) == "NOT_A_MODULE"


def test_suffix_extensions_that_leave_no_room_for_a_product_are_not_a_module() -> None:
    assert refusal(maker.with_suffix(extension(0x11, b"a longer name"))) == "NOT_A_MODULE"


def test_prefix_extensions_without_an_end_are_not_a_module() -> None:
    assert refusal(altered_to_the_end()) == "NOT_A_MODULE"


def altered_to_the_end() -> bytes:
    """One extension that reaches exactly to the fixed suffix, so that no END can follow."""
    left = len(maker.with_prefix_extensions(b"")) - 24 - 40
    return maker.altered(maker.with_prefix_extensions(b""), 24, struct.pack("<HH", 0x11, left))


def test_1024_extensions_are_read_and_1025_are_not_a_module() -> None:
    assert len(read(maker.with_prefix_extensions(extension(0x11, b"") * 1023 + maker.END)).extensions) == 1024
    assert refusal(maker.with_prefix_extensions(extension(0x11, b"") * 1024 + maker.END)) == "NOT_A_MODULE"


def test_a_file_that_names_two_products_is_not_a_module() -> None:
    product = extension(1, struct.pack("<HHH", 0xFFFF, 1000, 7))

    assert refusal(maker.with_suffix(product + extension(0x11, struct.pack("<HHHH", 1, 1, 1001, 7)))) == "NOT_A_MODULE"
    assert read(maker.with_suffix(product)).product_id == 1000


@pytest.mark.parametrize("flag", [Flag.COMBINED, Flag.ENCRYPTED])
def test_combined_and_encrypted_modules_are_unsupported(flag: Flag) -> None:
    assert refusal(maker.flagged(flag)) == "UNSUPPORTED"
    assert refusal(maker.flagged(flag) + maker.sound()) == "UNSUPPORTED"


def test_a_cut_or_padded_file_has_a_bad_length() -> None:
    assert refusal(maker.sound()[:-1]) == "BAD_LENGTH"
    assert refusal(maker.sound() + b"\xff") == "BAD_LENGTH"


def test_trailing_bytes_with_a_repaired_checksum_have_a_bad_length() -> None:
    assert refusal(maker.recrc(maker.sound() + b"smuggled")) == "BAD_LENGTH"


def test_a_single_flipped_bit_of_the_code_is_a_bad_checksum() -> None:
    assert refusal(maker.changed(maker.sound(), 500, bytes([maker.sound()[500] ^ 1]))) == "BAD_CRC"


def test_changed_code_with_a_repaired_checksum_is_a_bad_digest() -> None:
    assert refusal(maker.recrc(maker.changed(maker.sound(), 500, bytes([maker.sound()[500] ^ 1])))) == "BAD_DIGEST"


def test_a_digest_is_asked_of_applications_only() -> None:
    radio = maker.sound(function=8)

    assert read(maker.recrc(maker.changed(radio, 500, bytes([radio[500] ^ 1])))).is_application is False


def test_a_compressed_module_is_read_without_and_with_its_own_info() -> None:
    whole = read(maker.sound(compressed=True))
    bare = read(maker.packed(b"code" * 500, flags=Flag.DROP_MODULE_INFO))

    assert (whole.product_id, whole.version, whole.unpacked_bytes) == (1000, 7, len(maker.sound()))
    assert (bare.product_id, bare.version, bare.unpacked_bytes) == (1000, 7, 2000)


@pytest.mark.parametrize(
    "binary",
    [
        maker.packed(b"code" * 500, method=1),
        maker.packed(b"code" * 500, stated=1999),
        maker.packed(b"code" * 500, stated=2001),
        maker.packed(maker.sound(product_id=1001)),
        maker.packed(maker.sound(version=8)),
        maker.packed(maker.sound(compressed=True)),
        maker.altered(maker.packed(b"code" * 500), 32, b"\xff\xff"),
        maker.altered(maker.packed(b"code" * 500), 24, b"\x09"),
        maker.packed(b"code" * 500, ending=b"more"),
        maker.packed(b"code" * 500, ending=None),
    ],
    ids=[
        "method",
        "longer",
        "shorter",
        "other product inside",
        "other version inside",
        "packed twice",
        "no deflate data",
        "header size",
        "more behind",
        "no end",
    ],
)
def test_compression_that_hides_or_lies_is_unsupported(binary: bytes) -> None:
    assert refusal(binary) == "UNSUPPORTED"


def test_a_compression_bomb_is_never_unpacked() -> None:
    bomb = maker.packed(b"", stated=0)
    deflate = zlib.compressobj(9, wbits=-15)
    data = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(128)) + deflate.flush()
    header = struct.pack("<HBBI", 8, 0, 15, 128 << 20)

    honest = seal(bomb[:24] + header + data + bomb[-44:])
    lying = [seal(bomb[:24] + struct.pack("<HBBI", 8, 0, 15, stated) + data + bomb[-44:]) for stated in (4096, 0)]

    tracemalloc.start()
    said = [refusal(binary) for binary in (honest, *lying)]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(honest) < 140_000
    assert said == ["TOO_LARGE", "UNSUPPORTED", "UNSUPPORTED"]
    assert peak_bytes < 1 << 20


def test_damage_to_compressed_data_is_told_as_damage() -> None:
    compressed = maker.sound(compressed=True)

    assert refusal(maker.changed(compressed, 60, bytes([compressed[60] ^ 0x40]))) == "BAD_CRC"


def test_a_compressed_flag_without_room_for_data_is_not_a_module() -> None:
    assert refusal(maker.altered(maker.sound(size=0), maker.FLAGS_AT, bytes([Flag.COMPRESSED]))) == "NOT_A_MODULE"


def test_all_kinds_of_buffers_are_read() -> None:
    binary = maker.sound()
    with mmap.mmap(-1, len(binary)) as mapped:
        mapped[:] = binary
        seen: list[Module] = [read(kind) for kind in (binary, bytearray(binary), memoryview(binary), mapped)]

    assert seen == [seen[0]] * 4
