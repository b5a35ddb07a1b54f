"""Signing keys: whose they are, and that firmware needs a signature by one of them as soon as there is one."""

from typing import Any

import pytest

from firmware_formats.signing import new_key, sign, statement
from fleet.firmware import trusting
from models.firmware import Firmware
from models.global_ids import global_id
from models.operations import AuditEntry
from models.organization import SigningKey
from models.product import Product
from public_keys import public_half
from tests.firmware_house import begin, binary, upload
from tests.house import HouseTester

KEYS = 'query { organization(slug: "acme") { signingKeys { id name publicKey } } }'


async def trusted(tester: HouseTester, token: str, public_key: str, name: str = "Release") -> dict[str, Any]:
    return await tester.do("addSigningKey", "signingKey { id name publicKey }", token, organization="acme", name=name, publicKey=public_key)


def signature_of(key: Any, content: bytes, product_id: int, version: int, platform: str = "PHOTON") -> str:
    return sign(key, statement(content, product_id=product_id, version=version, platform=platform))


async def test_keys_are_added_listed_and_removed_by_an_admin_and_audited(tester: HouseTester) -> None:
    owner = await tester.owner()
    admin = await tester.member(owner, "ada", "ADMIN")
    key = public_half(new_key())

    added = (await trusted(tester, admin, key))["signingKey"]
    assert added["publicKey"] == key
    assert (await tester.ask(KEYS, owner))["organization"]["signingKeys"] == [added]
    assert (await tester.ask("query ($id: ID!) { node(id: $id) { __typename id } }", owner, id=added["id"]))["node"] == {
        "__typename": "SigningKey",
        "id": added["id"],
    }
    removed = await tester.do("removeSigningKey", "clientMutationId", admin, id=added["id"])

    assert removed["errors"] == []
    assert (await tester.ask(KEYS, owner))["organization"]["signingKeys"] == []
    acts = await AuditEntry.filter(action__startswith="signing_key").order_by("id")
    assert [(act.action, act.actor, act.detail) for act in acts] == [
        (action, "user:ada@example.com", {"name": "Release", "public_key": key}) for action in ("signing_key.added", "signing_key.removed")
    ]


@pytest.mark.parametrize("public_key", ["", "AAAA", "A" * 43, "-----BEGIN PUBLIC KEY-----"])
async def test_what_is_no_key_is_refused_and_not_kept(tester: HouseTester, public_key: str) -> None:
    owner = await tester.owner()

    payload = await trusted(tester, owner, public_key)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "publicKey"])]
    assert await SigningKey.all().count() == 0


async def test_a_key_is_trusted_once_and_not_by_a_developer_or_a_stranger(tester: HouseTester) -> None:
    owner, stranger, key = await tester.owner(), await tester.person("eve"), public_half(new_key())
    developer = await tester.member(owner, "dan", "DEVELOPER")
    added = (await trusted(tester, owner, key))["signingKey"]
    before = await tester.audited()

    answers = [
        await trusted(tester, owner, key, "Again"),
        await trusted(tester, developer, public_half(new_key())),
        await trusted(tester, stranger, public_half(new_key())),
        await tester.do("removeSigningKey", "clientMutationId", developer, id=added["id"]),
        await tester.do("removeSigningKey", "clientMutationId", stranger, id=added["id"]),
        await tester.do("removeSigningKey", "clientMutationId", owner, id=global_id("SigningKey", 9999)),
    ]

    codes = [error["code"] for answer in answers for error in answer["errors"]]
    assert codes == ["ALREADY_EXISTS", "FORBIDDEN", "NOT_FOUND", "FORBIDDEN", "NOT_FOUND", "NOT_FOUND"]
    assert [key.name for key in await SigningKey.all()] == ["Release"]
    assert await tester.audited() == before


async def test_an_organization_has_no_more_keys_than_its_limit(tester: HouseTester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusting, "KEYS_MAX", 1)
    owner = await tester.owner()
    await trusted(tester, owner, public_half(new_key()))

    payload = await trusted(tester, owner, public_half(new_key()))

    assert [error["code"] for error in payload["errors"]] == ["INVALID_INPUT"]
    assert await SigningKey.all().count() == 1


async def test_with_a_key_only_what_it_signed_is_taken(tester: HouseTester) -> None:
    owner, ours, old, foreign = await tester.owner(), new_key(), new_key(), new_key()
    product_id = await tester.product(owner)
    content = binary(product_id, 5)
    await upload(tester, owner, product_id, 1)
    for key in (old, ours):
        await trusted(tester, owner, public_half(key))
    refused = {
        "unsigned": None,
        "empty": "",
        "foreign": signature_of(foreign, content, product_id, 5),
        "of another version": signature_of(ours, content, product_id, 6),
        "of another product": signature_of(ours, content, product_id + 1, 5),
        "of another platform": signature_of(ours, content, product_id, 5, "P1"),
        "of other bytes": signature_of(ours, content + b"\0", product_id, 5),
    }
    before = await tester.audited()

    answers = {why: await upload(tester, owner, product_id, 5, content, signature=text) for why, text in refused.items()}

    said = {why: [(error["code"], error["reason"], error["path"]) for error in answer["errors"]] for why, answer in answers.items()}
    path = ["input", "signature"]
    assert said.pop("unsigned") == [("BINARY_INVALID", "SIGNATURE_REQUIRED", path)]
    assert said == {why: [("BINARY_INVALID", "SIGNATURE_INVALID", path)] for why in said}
    assert (await Product.get(number=product_id)).last_version == 1
    assert await Firmware.all().count() == 1
    assert await tester.audited() == before
    for version, key in [(5, ours), (6, old)]:
        content = binary(product_id, version)
        good = await upload(tester, owner, product_id, version, content, signature=signature_of(key, content, product_id, version))
        assert good["errors"] == []


async def test_the_signature_is_kept_shown_and_audited(tester: HouseTester) -> None:
    owner, key = await tester.owner(), new_key()
    product_id = await tester.product(owner)
    await upload(tester, owner, product_id, 1)
    await trusted(tester, owner, public_half(key))
    content = binary(product_id, 2)
    signature = signature_of(key, content, product_id, 2)

    await upload(tester, owner, product_id, None, content, signature=signature, title="Signed")

    asked = "query ($p: Int!) { product(productId: $p) { firmwares { nodes { version signed } } } }"
    assert (await tester.ask(asked, owner, p=product_id))["product"]["firmwares"]["nodes"] == [
        {"version": 2, "signed": True},
        {"version": 1, "signed": False},
    ]
    assert (await Firmware.get(version=2)).signature == signature
    acts = await AuditEntry.filter(action="firmware.uploaded").order_by("id")
    assert [act.detail["signed_by"] for act in acts] == [None, "Release"]


async def test_a_signature_that_no_key_can_confirm_is_not_kept_as_one(tester: HouseTester) -> None:
    owner, key = await tester.owner(), new_key()
    product_id = await tester.product(owner)
    content = binary(product_id, 1)

    payload = await upload(tester, owner, product_id, 1, content, signature=signature_of(key, content, product_id, 1))

    assert [error["reason"] for error in payload["errors"]] == ["SIGNATURE_INVALID"]
    assert await Firmware.all().count() == 0


async def test_the_signature_comes_last_of_the_rules(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await trusted(tester, owner, public_half(new_key()))

    payload = await upload(tester, owner, product_id, 1, binary(product_id, 2))

    assert [error["reason"] for error in payload["errors"]] == ["VERSION_MISMATCH"]


async def test_the_device_is_handed_the_signature_with_the_offer(tester: HouseTester) -> None:
    story = await begin(tester)
    key = new_key()
    await trusted(tester, story.owner, public_half(key))
    content = binary(story.product_id, 9)
    signature = signature_of(key, content, story.product_id, 9)
    await upload(tester, story.owner, story.product_id, 9, content, signature=signature)
    await story.act("lockAndFlash", firmwareVersion=9, when="NOW", deviceIds=[story.row.device_id])

    offer = await story.offered()

    assert (offer.version, offer.signature) == (9, signature)
