"""Documents that come again, at the door: answered by their plans, refused as before."""

from typing import Any

import pytest
from strawberry.extensions import SchemaExtension

from errors import BadRequest
from schema.build import build_schema
from tests.house import HouseTester
from transport import metrics
from transport.documents import Documents
from transport.gate import Asked

TEAM = "query ($slug: String!) { organization(slug: $slug) { name members { role user { name } } } }"


async def answers(
    tester: HouseTester, documents: Documents, token: str | None, times: int, text: str = TEAM, **variables: Any
) -> list[Any]:
    found = []
    for _ in range(times):
        await documents.prepare(text, None, variables, signed_in=True)
        found.append(await documents.execute(Asked(text, None, variables), await tester.context(token)))
    return found


def compiled() -> float:
    return metrics.COMPILED._value.get()


async def test_a_query_that_comes_again_is_answered_by_its_plan(tester: HouseTester) -> None:
    owner, documents, before = await tester.owner(), Documents(tester.schema, tester.house.settings), compiled()

    first, second, third = await answers(tester, documents, owner, 3, slug="acme")

    assert (
        first.data
        == second.data
        == third.data
        == {"organization": {"name": "Acme", "members": [{"role": "OWNER", "user": {"name": "Ann"}}]}}
    )
    assert compiled() - before == 2


async def test_whoever_may_not_is_refused_on_both_ways_alike(tester: HouseTester) -> None:
    owner, documents = await tester.owner(), Documents(tester.schema, tester.house.settings)
    stranger = await tester.owner("eve", "Other")
    await answers(tester, documents, owner, 3, slug="acme")
    before = compiled()

    (hidden,) = await answers(tester, documents, stranger, 1, slug="acme")
    (refused,) = await answers(tester, documents, None, 1, slug="acme")

    assert (hidden.data, hidden.errors) == ({"organization": None}, None)
    assert [error.original_error.code for error in refused.errors] == ["UNAUTHENTICATED"]
    assert compiled() - before == 1  # what is refused has no plan


async def test_a_schema_with_extensions_is_not_compiled(tester: HouseTester) -> None:
    """An extension would hear nothing of the fields."""
    owner, documents, before = await tester.owner(), Documents(build_schema([SchemaExtension]), tester.house.settings), compiled()

    await answers(tester, documents, owner, 3, slug="acme")

    assert compiled() == before


async def test_a_known_document_is_measured_anew_for_each_page_size(tester: HouseTester) -> None:
    owner, documents = await tester.owner(), Documents(tester.schema, tester.house.settings)
    text = 'query ($first: Int = 2) { organization(slug: "acme") { products(first: $first) { nodes { name } } } }'

    async def cost(**variables: Any) -> int:
        return (await documents.prepare(text, None, variables, signed_in=True)).cost

    assert [await cost(), await cost(first=5), await cost(first=None), await cost(), await cost(first=5)] == [6, 12, 52, 6, 12]
    with pytest.raises(BadRequest):
        await cost(first=101)
    assert (await answers(tester, documents, owner, 1, text, first=5))[0].errors is None
