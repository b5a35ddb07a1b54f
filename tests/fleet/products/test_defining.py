"""Products: their number, slug, and provisioning key."""

import asyncio

import pytest

from auth.tokens import Kind, kind_of
from models.operations import AuditEntry
from models.product import Product
from tests.house import GraphQLFailed, HouseTester

PRODUCT = "product { id productId slug name description platform allowGenericFirmware autoApprove organization { slug } }"


async def test_the_first_product_has_the_lowest_number_and_a_slug_of_its_name(tester: HouseTester) -> None:
    owner = await tester.owner()

    payload = await tester.do(
        "createProduct", PRODUCT, owner, organization="acme", name="  Garden Lamp ", platform="P1", description="Glows."
    )

    assert payload["errors"] == []
    assert payload["product"] | {"id": ""} == {
        "id": "",
        "productId": 1000,
        "slug": "garden-lamp",
        "name": "Garden Lamp",
        "description": "Glows.",
        "platform": "P1",
        "allowGenericFirmware": False,
        "autoApprove": False,
        "organization": {"slug": "acme"},
    }
    assert (await tester.audited())[-1] == "product.created"


async def test_a_product_is_found_by_number_slug_and_global_id(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner, "Lamp")

    by_number = (await tester.ask("query ($n: Int) { product(productId: $n) { id slug productId } }", owner, n=number))["product"]
    by_slug = (await tester.ask('{ product(slug: "lamp") { id slug productId } }', owner))["product"]
    by_id = (await tester.ask("query ($id: ID!) { node(id: $id) { id ... on Product { slug productId } } }", owner, id=by_slug["id"]))[
        "node"
    ]
    listed = (await tester.ask('{ organization(slug: "acme") { products { nodes { id slug productId } } } }', owner))["organization"]

    assert by_number == by_slug == by_id == {"id": by_slug["id"], "slug": "lamp", "productId": number}
    assert listed["products"]["nodes"] == [by_slug]


@pytest.mark.parametrize("arguments", ["", '(productId: 1000, slug: "lamp")', "(productId: null)"])
async def test_a_product_is_asked_for_by_exactly_one_name(tester: HouseTester, arguments: str) -> None:
    owner = await tester.owner()
    await tester.product(owner, "Lamp")

    with pytest.raises(GraphQLFailed) as failed:
        await tester.ask(f"{{ product{arguments} {{ slug }} }}", owner)

    assert failed.value.codes == ["BAD_REQUEST"]


async def test_two_products_of_one_name_have_two_slugs(tester: HouseTester) -> None:
    owner = await tester.owner()

    first, second = await tester.product(owner, "Lamp"), await tester.product(owner, "LAMP")

    slugs = [product.slug for product in await Product.all().order_by("number")]
    assert (first, second) == (1000, 1001)
    assert slugs[0] == "lamp"
    assert slugs[1].startswith("lamp-")


async def test_a_name_without_a_letter_of_ascii_still_has_a_slug(tester: HouseTester) -> None:
    owner = await tester.owner()

    await tester.product(owner, "灯")

    assert (await Product.get()).slug == "product"


async def test_products_made_at_once_get_different_numbers_and_slugs(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await tester.owner()

    numbers = await asyncio.gather(*(tester.product(owner, "Lamp") for _ in range(20)))

    assert sorted(numbers) == list(range(1000, 1020))
    assert len({product.slug for product in await Product.all()}) == 20


async def test_numbers_end_at_65534_and_gaps_are_never_filled(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner, "Lamp")
    await Product.filter(number=1000).update(number=65533)

    last = await tester.product(owner, "Last")
    before = await tester.audited()
    payload = await tester.do("createProduct", PRODUCT, owner, organization="acme", name="Late", platform="P1")

    assert last == 65534
    assert [error["code"] for error in payload["errors"]] == ["INVALID_INPUT"]
    assert await Product.all().count() == 2
    assert await tester.audited() == before


async def test_an_update_changes_what_is_given_and_records_before_and_after(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner, "Lamp")

    payload = await tester.do("updateProduct", PRODUCT, owner, productId=number, name="Torch", autoApprove=True, description=None)

    product = payload["product"]
    assert (product["name"], product["slug"], product["autoApprove"], product["allowGenericFirmware"]) == ("Torch", "lamp", True, False)
    entry = await AuditEntry.filter(action="product.updated").get()
    assert entry.detail == {"before": {"name": "Lamp", "auto_approve": False}, "after": {"name": "Torch", "auto_approve": True}}
    assert entry.subject == f"product:{number}"


async def test_an_update_to_what_is_already_so_leaves_no_trace(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner, "Lamp")
    before = await tester.audited()

    payload = await tester.do("updateProduct", PRODUCT, owner, productId=number, name="Lamp", autoApprove=False)

    assert payload["product"]["name"] == "Lamp"
    assert await tester.audited() == before


async def test_the_platform_is_no_field_of_an_update(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner, platform="PHOTON")

    with pytest.raises(GraphQLFailed):
        await tester.do("updateProduct", PRODUCT, owner, productId=number, platform="P1")

    assert (await Product.get()).platform == "PHOTON"


async def test_the_provisioning_key_is_shown_once_and_stored_sealed(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)

    first = (await tester.do("rotateProvisioningKey", "provisioningKey", owner, productId=number))["provisioningKey"]
    second = (await tester.do("rotateProvisioningKey", "provisioningKey", owner, productId=number))["provisioningKey"]

    sealed = (await Product.get()).provisioning_key
    assert kind_of(first) is kind_of(second) is Kind.PROVISIONING_KEY
    assert first != second
    assert tester.house.sealer.unseal(sealed, context=f"product/{number}/provisioning") == second
    assert (await tester.audited())[-2:] == ["product.provisioning_key_rotated"] * 2
    assert all(second not in str(entry.detail) for entry in await AuditEntry.all())


@pytest.mark.parametrize("role", ["VIEWER", "SUPPORT"])
async def test_below_developer_nobody_changes_products(tester: HouseTester, role: str) -> None:
    owner = await tester.owner()
    number = await tester.product(owner, "Lamp")
    bob = await tester.member(owner, "bob", role)
    before = await tester.audited()

    refused = [
        await tester.do("createProduct", PRODUCT, bob, organization="acme", name="Torch", platform="P1"),
        await tester.do("updateProduct", PRODUCT, bob, productId=number, name="Torch"),
        await tester.do("rotateProvisioningKey", "provisioningKey", bob, productId=number),
    ]
    seen = await tester.ask("query ($n: Int) { product(productId: $n) { name } }", bob, n=number)

    assert [error["code"] for payload in refused for error in payload["errors"]] == ["FORBIDDEN"] * 3
    assert seen["product"] == {"name": "Lamp"}
    assert [(product.name, product.provisioning_key) for product in await Product.all()] == [("Lamp", None)]
    assert await tester.audited() == before


async def test_a_strangers_product_does_not_exist(tester: HouseTester) -> None:
    owner, eve = await tester.owner(), await tester.owner("eve", "Other")
    number = await tester.product(owner, "Lamp")
    lamp = (await tester.ask('{ product(slug: "lamp") { id } }', owner))["product"]
    before = await tester.audited()

    refused = [
        await tester.do("createProduct", PRODUCT, eve, organization="acme", name="Torch", platform="P1"),
        await tester.do("updateProduct", PRODUCT, eve, productId=number, name="Torch"),
        await tester.do("rotateProvisioningKey", "provisioningKey", eve, productId=number),
    ]
    seen = await tester.ask('query ($id: ID!) { product(slug: "lamp") { name } node(id: $id) { id } }', eve, id=lamp["id"])

    assert [error["code"] for payload in refused for error in payload["errors"]] == ["NOT_FOUND"] * 3
    assert seen == {"product": None, "node": None}
    assert [product.name for product in await Product.all()] == ["Lamp"]
    assert await tester.audited() == before


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "bell\x07"])
async def test_a_product_needs_a_name(tester: HouseTester, name: str) -> None:
    owner = await tester.owner()

    payload = await tester.do("createProduct", PRODUCT, owner, organization="acme", name=name, platform="P1")

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "name"])]
    assert await Product.all().count() == 0


async def test_a_machine_bound_to_a_product_reaches_nothing_of_another(tester: HouseTester) -> None:
    owner = await tester.owner()
    own, other = await tester.product(owner, "Lamp"), await tester.product(owner, "Torch")
    scopes = ["products:read", "products:write", "devices:read", "devices:write", "customers:read", "customers:write"]
    made = await tester.do("createApiUser", "token", owner, organization="acme", name="ci", scopes=scopes, productId=own)
    group = (await tester.do("createDeviceGroup", "group { id }", owner, productId=other, name="lab"))["group"]
    customer = (await tester.do("createCustomer", "customer { id }", owner, productId=other, username="zoe"))["customer"]
    before = await tester.audited()

    refused = [
        await tester.do("createProduct", PRODUCT, made["token"], organization="acme", name="New", platform="P1"),
        await tester.do("updateProduct", PRODUCT, made["token"], productId=other, name="New"),
        await tester.do("createDeviceGroup", "group { id }", made["token"], productId=other, name="new"),
        await tester.do("deleteDeviceGroup", "clientMutationId", made["token"], id=group["id"]),
        await tester.do("deleteCustomer", "clientMutationId", made["token"], id=customer["id"]),
    ]
    seen = await tester.ask("{ own: product(productId: 1000) { name } other: product(productId: 1001) { name } }", made["token"])
    nodes = await tester.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", made["token"], ids=[group["id"], customer["id"]])

    assert [error["code"] for payload in refused for error in payload["errors"]] == ["NOT_FOUND"] * 5
    assert seen == {"own": {"name": "Lamp"}, "other": None}
    assert nodes == {"nodes": [None, None]}
    assert await tester.audited() == before
