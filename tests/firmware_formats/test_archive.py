"""Bundles: one application, the assets that it names, and no trick that a zip can play."""

import io
import stat
import struct
import zipfile
import zlib

import pytest

from errors import BinaryInvalid, BinaryMismatch, CallerError
from firmware_formats.gate import Verdict, judge
from tests.firmware_formats import images, maker, npm_peer

MIB = 1 << 20


def judged(content: bytes, *, platform: str = "PHOTON", version: int | None = 7, settings_max: int = 16 * MIB) -> Verdict:
    form = {"product_id": 1000, "slug": "lamp", "allow_generic": False, "settings_max": settings_max}
    return judge(content, platform=platform, version=version, **form)  # type: ignore[arg-type]  # the form's keywords


def refused(content: bytes, reason: str, error: type[CallerError] = BinaryInvalid, **form: object) -> str:
    with pytest.raises(error) as caught:
        judged(content, **form)  # type: ignore[arg-type]  # the form's keywords
    assert caught.value.reason == reason
    return caught.value.message


def with_entry(name: str, content: bytes = b"x", **attributes: int) -> bytes:
    """A sound bundle, and one more entry with attributes of its own."""
    buffer = io.BytesIO(images.bundle())
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo(name)
        for key, value in attributes.items():
            setattr(info, key, value)
        archive.writestr(info, content)
    return buffer.getvalue()


def in_directory(content: bytes, entry: int, at: int, value: bytes) -> bytes:
    """Bytes of one entry of the directory changed; its fixed part has 46, and the name follows."""
    (position,) = struct.unpack_from("<I", content, len(content) - 6)
    for _ in range(entry):
        name, extra, comment = struct.unpack_from("<HHH", content, position + 28)
        position += 46 + name + extra + comment
    return maker.changed(content, position + at, value)


def test_a_bundle_is_its_application_with_the_assets_that_it_names() -> None:
    verdict = judged(images.bundle())

    assert (verdict.verified, verdict.version, verdict.found_product_id, verdict.facts["assets"]) == (True, 7, 1000, 2)
    assert judged(images.zipped({"lamp.bin": images.naming({})})).facts["assets"] == 0
    assert judged(images.bundle(), version=None).version == 7


def test_the_application_of_a_bundle_passes_the_whole_gate() -> None:
    sound = images.naming(images.ASSETS)

    refused(images.bundle(application=images.naming(images.ASSETS, product_id=1001)), "PRODUCT_MISMATCH", BinaryMismatch)
    refused(images.bundle(application=images.naming(images.ASSETS, platform_id=8)), "PLATFORM_MISMATCH", BinaryMismatch)
    refused(images.bundle(), "VERSION_MISMATCH", BinaryMismatch, version=8)
    refused(images.bundle(application=sound[:-1]), "BAD_LENGTH")
    refused(images.bundle(application=maker.changed(sound, 300, b"\0\1\2")), "BAD_CRC")
    refused(images.zipped({"lamp.bin": maker.sound(size=200 << 10)}), "TOO_LARGE")


def test_a_bundle_may_be_larger_than_the_platforms_application() -> None:
    large = {"film": bytes(range(256)) * 4096}

    assert judged(images.zipped({"lamp.bin": images.naming(large), "assets/film": large["film"]})).verified is True


def test_each_asset_is_named_by_the_application_with_its_hash_and_none_is_missing() -> None:
    application, assets = images.naming(images.ASSETS), images.ASSETS

    assert "does not name" in refused(images.bundle({**assets, "more.png": b"1"}, application=application), "UNSUPPORTED")
    assert "ring.wav" in refused(images.bundle({"picture.png": assets["picture.png"]}, application=application), "UNSUPPORTED")
    assert "picture.png" in refused(images.bundle({**assets, "picture.png": b"others"}, application=application), "BAD_DIGEST")


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../lamp.txt", "assets/../../x", "assets//x", "assets/./x", "assets\\x", "C:/x", "assets/a\nb", "assets/"]
)
def test_a_name_that_is_no_plain_path_inside_is_refused(name: str) -> None:
    if name == "assets/":
        assert judged(with_entry(name, b"")).verified is True  # a folder holds nothing
    else:
        refused(with_entry(name), "UNSUPPORTED")


def test_what_is_no_file_of_a_bundle_is_refused() -> None:
    link = (stat.S_IFLNK | 0o777) << 16

    assert "link" in refused(with_entry("assets/link", b"picture.png", external_attr=link, create_system=3), "UNSUPPORTED")
    assert "2 applications" in refused(with_entry("second.bin"), "UNSUPPORTED")
    assert "readme.txt" in refused(with_entry("readme.txt"), "UNSUPPORTED")
    assert "encrypted" in refused(in_directory(images.bundle(), 1, 8, b"\x01"), "UNSUPPORTED")
    assert "method 12" in refused(in_directory(images.bundle(), 1, 10, b"\x0c"), "UNSUPPORTED")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused() -> None:
    assert "twice" in refused(with_entry("lamp.bin"), "UNSUPPORTED")


def test_at_most_256_entries_are_taken() -> None:
    assets = {f"{n}": bytes([n]) for n in range(255)}

    assert judged(images.bundle(assets)).verified is True
    assert "256" in refused(images.bundle({**assets, "one more": b""}, application=images.naming(assets)), "UNSUPPORTED")


def test_a_bomb_of_128_mib_is_refused_after_16_whatever_it_declares() -> None:
    bomb = images.bundle({"bomb": bytes(128 * MIB)}, application=maker.sound())
    modest = in_directory(bomb, 1, 24, struct.pack("<I", 1000))

    assert len(bomb) < 160_000
    assert "unpacks to more than 16777216 bytes" in refused(bomb, "TOO_LARGE")
    refused(modest, "BAD_LENGTH")


def test_the_limit_is_for_all_entries_together() -> None:
    assets = {"a": bytes(600_000), "b": bytes(600_000)}

    assert judged(images.bundle(assets)).verified is True
    refused(images.bundle(assets), "TOO_LARGE", settings_max=MIB)


def test_sizes_and_checksums_of_the_directory_must_hold() -> None:
    sound = images.bundle()

    assert "does not unpack to the 3 bytes" in refused(in_directory(sound, 1, 24, struct.pack("<I", 3)), "BAD_LENGTH")
    refused(in_directory(sound, 1, 16, b"\0\0\0\0"), "BAD_CRC")
    refused(in_directory(sound, 1, 20, struct.pack("<I", 9)), "UNSUPPORTED")
    refused(in_directory(sound, 1, 20, struct.pack("<I", 0xFFFFFFF)), "UNSUPPORTED")


def test_entries_that_share_bytes_are_refused() -> None:
    """An entry inside of another's bytes: how a small archive unpacks to a large one without much deflate."""
    hidden = images.zipped({"assets/b": b"1"}, method=zipfile.ZIP_STORED).partition(b"PK\x01\x02")[0]
    assets = {"a": hidden, "b": b"1"}
    files = {"lamp.bin": images.naming(assets), "assets/a": hidden, "assets/b": b"1"}
    sound = images.zipped(files, method=zipfile.ZIP_STORED)
    inside = sound.index(b"PK\x03\x04", sound.index(b"assets/a"))
    outside = sound.rindex(b"PK\x03\x04", 0, inside)

    assert judged(sound).verified is True
    assert "overlap" in refused(in_directory(sound, 2, 42, struct.pack("<I", inside)), "UNSUPPORTED")
    assert "name different files" in refused(in_directory(sound, 2, 42, struct.pack("<I", outside)), "UNSUPPORTED")


def test_an_archive_that_was_cut_or_goes_on_behind_its_end_is_refused() -> None:
    sound = images.bundle()

    for cut in (len(sound) - 1, len(sound) - 30, len(sound) // 2, 100):
        refused(sound[:cut], "BAD_LENGTH")
    refused(sound + b"\0", "BAD_LENGTH")


def test_data_that_is_no_deflate_is_refused() -> None:
    deflated = zlib.compress(images.ASSETS["picture.png"])[2:12]
    sound = images.bundle()
    at = sound.index(b"assets/picture.png") + len("assets/picture.png")

    assert len(deflated) == 10
    refused(maker.changed(sound, at, b"\xff" * 10), "UNSUPPORTED")


def test_the_vendors_own_bundle_is_taken() -> None:
    module = {"productId": 1000, "productVersion": 7, "platformId": 12}
    bundled, bare = npm_peer.make({**module, "bundle": {"picture.png": "pixels", "ring.wav": "ring"}}, {**module, "bundle": {}})

    assert judged(bundled, platform="ARGON").facts["assets"] == 2
    assert judged(bare, platform="ARGON").facts["assets"] == 0
