"""The law of the audit: a mutation that changes something says so in the audit, and one that is refused leaves no trace at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.operations import AuditEntry
from schema.build import build_schema
from tests.scenarios import access
from tests.scenarios.scenario import MUTATIONS, load
from tests.scenarios.stage import DONE, NOBODY, STRANGER, Stage, Stages
from tests.stored import whatever_a_refusal_must_leave_alone

load()
ASKED_BY_NOBODY = ("account.reset_requested", "customer.reset_requested", "customer.verification_requested")
EVERY_MUTATION = sorted(build_schema()._schema.mutation_type.fields)  # type: ignore[union-attr]  # there is one


def test_every_mutation_has_a_scenario() -> None:
    assert [name for name in EVERY_MUTATION if name not in MUTATIONS] == []


@pytest.mark.parametrize("name", [name for name in EVERY_MUTATION if name in MUTATIONS])
async def test_what_is_done_is_audited_and_what_is_refused_leaves_no_trace(stages: Stages, tmp_path: Path, name: str) -> None:
    scenario = MUTATIONS[name]
    async with stages.one(tmp_path, billing=scenario.billing) as stage:
        given = await scenario.prepare(stage)
        for who in (NOBODY, STRANGER):
            await _leaves_no_trace_if_refused(stage, who, name, given)
        before = await AuditEntry.all().count()

        assert await stage.call(scenario.by or NOBODY, name, given) == DONE

        written = (await AuditEntry.all().order_by("id"))[before:]
        assert len(written) == scenario.entries
        assert [fault for entry in written for fault in _faults(entry, in_organization=scenario.in_organization)] == []


async def _leaves_no_trace_if_refused(stage: Stage, who: str, name: str, given: Mapping[str, Any]) -> None:
    if access.MUTATIONS[name].answer(who, has_scope=True, by=MUTATIONS[name].by) == DONE:
        return
    before = await whatever_a_refusal_must_leave_alone()
    assert await stage.call(who, name, given) != DONE
    assert await whatever_a_refusal_must_leave_alone() == before


def _faults(entry: AuditEntry, *, in_organization: bool) -> list[str]:
    """What an entry fails to say: who, what ("noun.verb_done"), on what ("noun:key"), from where, and whose it is."""
    said = {
        "actor": entry.actor != "anonymous" or entry.action in ASKED_BY_NOBODY,
        "action": all(entry.action.partition(".")[::2]),
        "subject": all(entry.subject.partition(":")[::2]),
        "address": entry.address == "127.0.0.1",
        "organization": (entry.organization_id is not None) is in_organization,  # type: ignore[attr-defined]  # a Tortoise column
    }
    return [f"{entry.action}: {what}" for what, is_said in said.items() if not is_said]
