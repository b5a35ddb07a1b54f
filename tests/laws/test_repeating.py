"""The law of repeated calls: every mutation that takes an idempotency key acts once under it and answers twice the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import GraphQLObjectType, get_named_type, is_leaf_type

from models.operations import AuditEntry
from schema.build import build_schema
from tests.scenarios.scenario import MUTATIONS, load
from tests.scenarios.stage import Stages
from tests.stored import whatever_a_refusal_must_leave_alone

load()
FIELDS = build_schema()._schema.mutation_type.fields  # type: ignore[union-attr]  # there is one
# These hand their key on to the payment provider, which charges once for it: tests/billing holds that.
BY_THE_PROVIDER = {"payOpenInvoice", "reactivateSubscription"}
KEYED = sorted(
    name
    for name, field in FIELDS.items()
    if "idempotencyKey" in get_named_type(field.args["input"].type).fields and name not in BY_THE_PROVIDER
)

# What tells apart those that have no id.
TELLING = {
    "Billing": "state plan card { last4 }",
    "CreatedCustomer": "activationCode customer { id }",
    "RejectedCustomer": "line username code message",
    "RejectedDevice": "deviceId code message",
}


def _asked(payload: GraphQLObjectType) -> Iterator[str]:
    """A selection of everything in the payload: plain values, and of objects what tells one from another."""
    for name, field in payload.fields.items():
        named = get_named_type(field.type)
        if is_leaf_type(named):
            yield name
        elif name != "errors":
            yield f"{name} {{ {'id' if 'id' in named.fields else TELLING[named.name]} }}"


def _everything_in(mutation: str) -> str:
    return " ".join(_asked(get_named_type(FIELDS[mutation].type)))


@pytest.mark.parametrize("name", KEYED)
async def test_a_call_with_a_key_acts_once_and_is_answered_the_same_again(sqlite_stages: Stages, tmp_path: Path, name: str) -> None:
    scenario = MUTATIONS[name]
    assert scenario.by is not None
    async with sqlite_stages.one(tmp_path, billing=MUTATIONS[name].billing) as stage:
        given = {**await scenario.prepare(stage), "idempotencyKey": "k"}
        before = await AuditEntry.all().count()

        first = await stage.tester.do(name, _everything_in(name), stage.tokens[scenario.by], **given)
        await stage.settled()
        done = await whatever_a_refusal_must_leave_alone()
        again = await stage.tester.do(name, _everything_in(name), stage.tokens[scenario.by], **given)

        assert first["errors"] == []
        assert again == first
        assert await whatever_a_refusal_must_leave_alone() == done
        assert await AuditEntry.all().count() == before + scenario.entries
