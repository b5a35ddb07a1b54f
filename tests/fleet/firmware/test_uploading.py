"""The upload gate, titles, deleting, and the files themselves."""

import asyncio
import hashlib
import os
import time
from typing import Any

import pytest

from firmware_formats.particle import Flag
from firmware_formats.signing import new_key, sign, statement
from fleet.firmware.uploading import sweep_blobs
from models.firmware import Firmware
from models.product import Product
from public_keys import public_half
from tests.firmware_formats import images, maker
from tests.firmware_house import binary, device, upload, uploaded
from tests.house import HouseTester


async def read(tester: HouseTester, sha256: str, size: int) -> bytes:
    return b"".join([chunk async for chunk in tester.house.blobs.read_range(sha256, 0, size)])


async def test_a_binary_that_names_product_and_version_is_kept_and_verified(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    content = binary(product_id, 3)

    payload = await upload(tester, owner, product_id, 3, content, title="  Warm white ")

    assert payload["errors"] == []
    firmware = payload["firmware"]
    assert firmware["sha256"] == hashlib.sha256(content).hexdigest()
    assert (firmware["version"], firmware["title"], firmware["verified"], firmware["format"]) == (3, "Warm white", True, "PARTICLE")
    assert (firmware["size"], firmware["fileName"]) == (len(content), "lamp.bin")
    assert (firmware["releasable"], firmware["released"], firmware["runningOn"]) == (False, False, 0)
    assert "No active device of the product runs version 3 yet" in firmware["notReleasableBecause"]
    assert await read(tester, firmware["sha256"], firmware["size"]) == content
    assert (await tester.audited())[-1] == "firmware.uploaded"


async def test_without_a_version_the_file_s_own_is_taken(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)

    payload = await upload(tester, owner, product_id, None, binary(product_id, 7), title="Warm")

    assert payload["firmware"]["version"] == 7


@pytest.mark.parametrize(
    ("version", "code", "reason", "path", "content"),
    [
        (0, "INVALID_INPUT", None, ["input", "version"], None),
        (65535, "INVALID_INPUT", None, ["input", "version"], None),
        (5, "VERSION_NOT_INCREASING", None, ["input", "version"], None),
        (6, "BINARY_MISMATCH", "VERSION_MISMATCH", None, "of version 7"),
        (6, "BINARY_MISMATCH", "PRODUCT_MISMATCH", None, "of another product"),
        (6, "BINARY_MISMATCH", "PLATFORM_MISMATCH", None, "of another platform"),
        (6, "BINARY_INVALID", "NOT_A_MODULE", None, "no module"),
        (6, "BINARY_INVALID", "TOO_LARGE", None, "too large"),
    ],
)
async def test_the_first_rule_broken_answers_and_nothing_is_kept(
    tester: HouseTester, version: int, code: str, reason: str | None, path: list[str] | None, content: str | None
) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 5)
    before = await tester.audited()
    contents = {
        None: binary(product_id, version) if 0 < version < 65535 else b"",
        "of version 7": binary(product_id, 7),
        "of another product": binary(product_id + 1, 6),
        "of another platform": binary(product_id, 6, "BORON"),
        "no module": b"MZ" + bytes(4000),
        "too large": bytes(200 << 10),
    }

    payload = await upload(tester, owner, product_id, version, contents[content], title="Another")

    assert [(error["code"], error["reason"], error["path"]) for error in payload["errors"]] == [(code, reason, path)]
    assert await Firmware.all().count() == 1
    assert (await Product.get(number=product_id)).last_version == 5
    assert await tester.audited() == before


WRONG = {"product_id": 1001, "version": 9, "platform_id": 8}
PART = maker.sound(function=4, **WRONG)
# What answers, and a file that breaks this rule and as many of the later ones as a file can.
BY_THE_FILE = [
    ("TOO_LARGE", maker.changed(images.esp32(), 40, b"\0") + bytes(128 << 10)),
    ("WRONG_FORMAT", maker.changed(images.esp32(), 40, b"\0")),
    ("NOT_A_MODULE", maker.changed(maker.with_suffix(b"\x12\0\0\0" + bytes(4)), maker.PLATFORM_AT, b"\x08")),
    ("UNSUPPORTED", maker.changed(PART, maker.FLAGS_AT, bytes([Flag.COMBINED])) + PART),
    ("BAD_LENGTH", maker.changed(PART, 300, b"\0\1\2")[:-1]),
    ("BAD_CRC", maker.changed(PART, 300, b"\0\1\2")),
    ("NOT_APPLICATION", maker.recrc(maker.changed(PART, 300, b"\0\1\2"))),
    ("BAD_DIGEST", maker.recrc(maker.changed(maker.sound(**WRONG), 300, b"\0\1\2"))),
    ("PLATFORM_MISMATCH", maker.sound(65535, 65535, 8)),
    ("NO_VERSION", maker.sound(65535, 65535)),
    ("VERSION_MISMATCH", maker.sound(65535, 9)),
    ("NO_PRODUCT_ID", maker.sound(65535)),
    ("GENERIC_NOT_ALLOWED", maker.sound(6)),
    ("PRODUCT_MISMATCH", maker.sound(1001)),
]


async def test_one_rule_after_the_other_answers_as_the_one_before_is_met(tester: HouseTester) -> None:
    """Everything is wrong at first; each step repairs what answered, until the file is taken."""
    owner, stranger = await tester.owner(), await tester.owner("eve", "Other")
    product_id, key = await tester.product(owner), new_key()
    await upload(tester, owner, product_id, 5, title="Taken")
    viewer = await tester.member(owner, "bob", "VIEWER")
    await tester.do("addSigningKey", "signingKey { name }", owner, organization="acme", name="ours", publicKey=public_half(key))
    worst = BY_THE_FILE[0][1]
    about = statement(maker.sound(), product_id=1000, version=7, platform="PHOTON")
    steps = [
        ("NOT_FOUND", stranger, {"version": 0, "title": ""}, worst),
        ("FORBIDDEN", viewer, {"version": 0, "title": ""}, worst),
        ("INVALID_INPUT", owner, {"version": 0, "title": "Taken"}, worst),
        ("VERSION_NOT_INCREASING", owner, {"version": 5, "title": "Taken"}, worst),
        ("TITLE_TAKEN", owner, {"version": 7, "title": "Taken"}, worst),
        *((reason, owner, {"version": 7}, content) for reason, content in BY_THE_FILE),
        ("SIGNATURE_REQUIRED", owner, {"version": 7}, maker.sound()),
        ("SIGNATURE_INVALID", owner, {"version": 7, "signature": sign(new_key(), about)}, maker.sound()),
        (None, owner, {"version": 7, "signature": sign(key, about)}, maker.sound()),
    ]

    said = []
    for _, token, form, content in steps:
        payload = await upload(tester, token, product_id, content=content, **{"title": "New", **form})
        (error,) = payload["errors"] or [{"code": None}]
        said.append(error["reason"] if error["code"] in ("BINARY_INVALID", "BINARY_MISMATCH") else error["code"])

    assert said == [step[0] for step in steps]
    assert await Firmware.all().values_list("version", flat=True) == [5, 7]


async def test_a_title_is_taken_however_it_is_written(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await upload(tester, owner, product_id, 1, title="Warm White")

    second = await upload(tester, owner, product_id, 2, title="ｗarm WHITE")
    renamed = await tester.do("updateFirmware", "firmware { title }", owner, productId=product_id, version=1, title="Cold")

    assert [error["code"] for error in second["errors"]] == ["TITLE_TAKEN"]
    assert renamed["firmware"] == {"title": "Cold"}
    assert (await upload(tester, owner, product_id, 2, title="warm white"))["errors"] == []
    clash = await tester.do("updateFirmware", "firmware { title }", owner, productId=product_id, version=1, title="WARM WHITE")
    assert [error["code"] for error in clash["errors"]] == ["TITLE_TAKEN"]
    assert (await Firmware.get(version=1)).title == "Cold"


@pytest.mark.parametrize("platform", ["ESP32", "MCUBOOT", "OTHER"])
async def test_each_platform_has_its_format_and_only_other_takes_what_has_none(tester: HouseTester, platform: str) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner, platform=platform)
    slug = (await Product.get(number=product_id)).slug
    sound = {
        "ESP32": images.esp32(b"1", slug.encode()),
        "MCUBOOT": images.mcuboot((0, 0, 0, 1), product=slug),
        "OTHER": images.fwup(version="1", product=slug),
    }

    read_as = (await upload(tester, owner, product_id, 1, sound[platform]))["firmware"]
    unread = await upload(tester, owner, product_id, 2, b"anything")

    assert (read_as["format"], read_as["verified"]) == (platform.replace("OTHER", "FWUP"), True)
    if platform == "OTHER":
        assert (unread["firmware"]["format"], unread["firmware"]["verified"]) == ("OPAQUE", False)
    else:
        assert [(error["code"], error["reason"]) for error in unread["errors"]] == [("BINARY_INVALID", "NOT_A_MODULE")]


async def test_a_bundle_of_an_application_and_its_assets_is_kept_as_it_came(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    assets = {"film": bytes(range(256)) * 1024}
    content = images.bundle(assets, application=images.naming(assets, product_id=product_id, version=1))

    payload = await upload(tester, owner, product_id, 1, content)

    assert (payload["errors"], payload["firmware"]["format"], payload["firmware"]["verified"]) == ([], "PARTICLE", True)
    row = await Firmware.get(version=1)
    assert await read(tester, row.sha256, row.size) == content


async def test_what_is_no_file_is_refused(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)

    payload = await tester.do("uploadFirmware", "firmware { id }", owner, productId=product_id, version=1, title="A", binary="abc")

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "binary"])]


async def test_of_twenty_uploads_of_one_version_one_wins_and_its_bytes_are_kept(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await tester.owner()
    product_id = await tester.product(owner)
    files = [binary(product_id, 9, size=2048 + 64 * number) for number in range(20)]

    answers = await asyncio.gather(
        *(upload(tester, owner, product_id, 9, content, title=f"Try {number}") for number, content in enumerate(files))
    )

    codes = sorted(error["code"] for answer in answers for error in answer["errors"])
    assert codes == ["VERSION_NOT_INCREASING"] * 19
    (winner,) = [number for number, answer in enumerate(answers) if not answer["errors"]]
    row = await Firmware.get(version=9)
    assert row.title == f"Try {winner}"
    assert await read(tester, row.sha256, row.size) == files[winner]


async def test_a_deleted_version_is_never_given_again(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 4)

    payload = await tester.do("deleteFirmware", "clientMutationId", owner, productId=product_id, version=4)
    again = await upload(tester, owner, product_id, 4)

    assert payload["errors"] == []
    assert [error["code"] for error in again["errors"]] == ["VERSION_NOT_INCREASING"]
    assert (await tester.audited())[-1] == "firmware.deleted"


async def test_what_is_locked_to_a_device_or_was_ever_released_stays(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 1, 2)
    await device(product_id, 1, version=2)
    await device(product_id, 2, version=2, desired_firmware_version=1)
    await tester.do("releaseFirmware", "firmware { version }", owner, productId=product_id, version=2)
    await tester.do("withdrawRelease", "product { productId }", owner, productId=product_id)
    before = await tester.audited()

    for version in (1, 2):
        payload = await tester.do("deleteFirmware", "clientMutationId", owner, productId=product_id, version=version)
        assert [error["code"] for error in payload["errors"]] == ["FIRMWARE_IN_USE"]

    assert await Firmware.all().count() == 2
    assert await tester.audited() == before


async def test_deleting_while_it_is_released_or_locked_leaves_nothing_without_its_file(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await device(product_id, 1, version=0)
    for version in range(1, 31):
        await uploaded(tester, owner, product_id, version)
        row = await device(product_id, 100 + version, version=version)
        acts: list[Any] = [
            tester.do("deleteFirmware", "clientMutationId", owner, productId=product_id, version=version),
            tester.do("releaseFirmware", "firmware { version }", owner, productId=product_id, version=version)
            if version % 2
            else tester.do(
                "lockAndFlash", "devices { deviceId }", owner, productId=product_id, firmwareVersion=version, when="ON_RESET",
                deviceIds=[row.device_id],
            ),
        ]  # fmt: skip

        deleted, used = await asyncio.gather(*acts)

        assert (deleted["errors"] == []) != (used["errors"] == [])
        assert await Firmware.filter(version=version).count() == (1 if used["errors"] == [] else 0)


async def test_files_nobody_names_are_swept_after_a_day(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    kept, dropped = await uploaded(tester, owner, product_id, 1, 2)
    await tester.do("deleteFirmware", "clientMutationId", owner, productId=product_id, version=2)

    assert await sweep_blobs(tester.house) == 0
    for firmware in (kept, dropped):
        path = tester.house.settings.data_dir / "blobs" / "firmware" / firmware.sha256
        os.utime(path, (time.time() - 90_000, time.time() - 90_000))

    assert await sweep_blobs(tester.house) == 1
    assert await tester.house.blobs.verify(kept.sha256)
    assert not await tester.house.blobs.verify(dropped.sha256)


@pytest.mark.parametrize("role", ["VIEWER", "SUPPORT"])
async def test_below_developer_nobody_touches_firmware(tester: HouseTester, role: str) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 1)
    bob, eve = await tester.member(owner, "bob", role), await tester.owner("eve", "Other")
    before = await tester.audited()

    for token, code in ((bob, "FORBIDDEN"), (eve, "NOT_FOUND")):
        same = {"productId": product_id}
        answers = [
            await upload(tester, token, product_id, 2),
            await tester.do("updateFirmware", "firmware { id }", token, **same, version=1, title="X"),
            await tester.do("deleteFirmware", "clientMutationId", token, **same, version=1),
            await tester.do("releaseFirmware", "firmware { id }", token, **same, version=1),
            await tester.do("withdrawRelease", "product { id }", token, **same),
            await tester.do("lockAndFlash", "rejected { code }", token, **same, firmwareVersion=1, when="NOW", deviceIds=["0" * 24]),
            await tester.do("unlockDevices", "rejected { code }", token, **same, deviceIds=["0" * 24]),
        ]
        assert [error["code"] for answer in answers for error in answer["errors"]] == [code] * len(answers)

    assert await tester.audited() == before
    assert await Firmware.all().count() == 1


async def test_the_newest_version_is_listed_first_and_nothing_is_seen_from_outside(tester: HouseTester) -> None:
    owner, eve = await tester.owner(), await tester.owner("eve", "Other")
    product_id = await tester.product(owner)
    rows = await uploaded(tester, owner, product_id, 1, 5, 9)
    query = """query ($p: Int!, $after: Cursor) { product(productId: $p) {
        firmwares(first: 2, after: $after) { nodes { id version } totalCount pageInfo { endCursor hasNextPage } }
        firmware(version: 5) { version uploadedBy { email } product { productId } } releasedFirmware { version } } }"""

    first = (await tester.ask(query, owner, p=product_id))["product"]
    second = (await tester.ask(query, owner, p=product_id, after=first["firmwares"]["pageInfo"]["endCursor"]))["product"]

    assert [node["version"] for node in first["firmwares"]["nodes"]] == [9, 5]
    assert (first["firmwares"]["totalCount"], first["firmwares"]["pageInfo"]["hasNextPage"]) == (3, True)
    assert [node["version"] for node in second["firmwares"]["nodes"]] == [1]
    assert first["firmware"] == {"version": 5, "uploadedBy": {"email": "ann@example.com"}, "product": {"productId": product_id}}
    assert first["releasedFirmware"] is None
    key = first["firmwares"]["nodes"][0]["id"]
    find = "query ($id: ID!) { node(id: $id) { ... on Firmware { version } } }"
    assert await tester.ask(find, owner, id=key) == {"node": {"version": 9}}
    assert await tester.ask(find, eve, id=key) == {"node": None}
    assert len(rows) == 3
