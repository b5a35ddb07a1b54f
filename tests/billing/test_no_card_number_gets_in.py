"""A card number sent to any field of billing is refused, and stands in no log and no table afterwards."""

import logging
from functools import partial
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from resolvers.context import context_for
from schema.build import build_schema
from tests.payer import Payer
from tests.stored import everything
from transport.http import GraphQLDoor

NUMBER = "4242424242424242"
SPELLINGS = (NUMBER, "4242 4242 4242 4242", f"card {NUMBER[:8]}-{NUMBER[8:]} 12/30")
MUTATIONS = (
    "createOrganization",
    "createCardSetup",
    "updateCard",
    "changePlan",
    "cancelSubscription",
    "reactivateSubscription",
    "payOpenInvoice",
    "completeSandboxCardSetup",
    "advanceSandboxClock",
)
GOOD = {
    "organization": "acme",
    "name": "Other",
    "flow": "HOSTED",
    "plan": "TEAM_ANNUAL",
    "setupId": "Q2FyZFNldHVwOjE",
    "paymentMethod": "pm_card_visa",
    "to": "2050-01-01T00:00:00Z",
}


def text_fields(mutation: str) -> dict[str, bool]:
    """The fields of a mutation's input that take text, and whether they must be given."""
    input: Any = build_schema()._schema.get_type(f"{mutation[0].upper()}{mutation[1:]}Input")
    return {
        name: str(field.type).endswith("!") for name, field in input.fields.items() if str(field.type).strip("!") in ("String", "ID", "URL")
    }


def required(mutation: str) -> dict[str, str]:
    input: Any = build_schema()._schema.get_type(f"{mutation[0].upper()}{mutation[1:]}Input")
    return {name: GOOD[name] for name, field in input.fields.items() if str(field.type).endswith("!")}


@pytest.mark.parametrize("mutation", MUTATIONS)
async def test_a_card_number_is_refused_in_every_field_and_kept_nowhere(
    sqlite_payer: Payer, mutation: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    payer = sqlite_payer
    owner = await payer.found("pm_card_visa")
    before = await everything()
    caplog.set_level(logging.DEBUG)
    fields = [name for name in text_fields(mutation) if name != "clientMutationId"]

    answers = [
        await payer.do(mutation, "clientMutationId", owner, **{**required(mutation), name: spelled})
        for name in fields
        for spelled in SPELLINGS
    ]

    expected = [("CARD_NUMBER_REFUSED", ["input", name]) for name in fields for _ in SPELLINGS]
    assert [(error["code"], error["path"]) for answer in answers for error in answer["errors"]] == expected
    after = await everything()
    assert {t: r for t, r in after.items() if t != "token"} == {t: r for t, r in before.items() if t != "token"}
    written = caplog.text + "".join(capfd.readouterr()) + str(after) + str(answers)
    assert not any(spelled in written for spelled in SPELLINGS)
    assert fields


async def test_a_field_that_does_not_exist_takes_none_either(sqlite_payer: Payer, caplog: pytest.LogCaptureFixture) -> None:
    """Through the door of requests: it is what keeps the values of a refused document out of the log."""
    payer = sqlite_payer
    owner = await payer.found("pm_card_visa")
    caplog.set_level(logging.DEBUG)
    door = GraphQLDoor(build_schema(), partial(context_for, payer.house), payer.house.settings)
    text = "mutation ($input: UpdateCardInput!) { updateCard(input: $input) { clientMutationId } }"
    variables = {"input": {"organization": "acme", "setupId": "x", "cardNumber": NUMBER}}
    bodies = [
        {"query": text, "variables": variables},
        {
            "query": f'mutation {{ updateCard(input: {{ organization: "acme", setupId: "x", cardNumber: "{NUMBER}" }}) {{ clientMutationId }} }}'
        },
        {"query": f'mutation {{ updateCard(input: {{ organization: "{NUMBER}", setupId: "x" }}) {{ clientMutationId }} }}'},
    ]

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=Starlette(routes=door.routes()))) as client:
        headers = {"authorization": f"Bearer {owner}"}
        answers = [(await client.post("http://test/graphql", json=body, headers=headers)).json() for body in bodies]

    assert ["errors" in answer for answer in answers[:2]] == [True, True]
    assert NUMBER not in caplog.text
    assert NUMBER not in str(await everything())


async def test_no_secret_of_a_card_is_kept_either(payer: Payer, caplog: pytest.LogCaptureFixture) -> None:
    """At the level a server logs at; below it, the database's client writes down every statement."""
    owner = await payer.found("pm_card_visa")
    caplog.set_level(logging.INFO)

    made = await payer.do("createCardSetup", "setup { clientSecret }", owner, organization="acme", flow="ELEMENTS")

    secret = made["setup"]["clientSecret"]
    ours = {table: rows for table, rows in (await everything()).items() if not table.startswith("sandbox_")}
    assert secret.startswith("seti_")
    assert secret not in str(ours)
    assert secret not in caplog.text
