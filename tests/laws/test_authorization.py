"""The law of who may: every mutation, and every field of Query and Subscription, called by everybody there is, against one table.

Whoever is refused has changed nothing; whoever is not, has it done in a copy of the stage of their own.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from schema.build import build_schema
from tests.scenarios import access
from tests.scenarios.access import ENTRUSTED, EVERYBODY, NOT_FOUND, SCOPED, Rule, Team
from tests.scenarios.scenario import MUTATIONS, READINGS, STREAMS, load
from tests.scenarios.stage import DONE, EVERY_SCOPE, NULL, Stage, Stages
from tests.stored import whatever_a_refusal_must_leave_alone

load()
SCHEMA = build_schema()._schema
Case = tuple[str, tuple[str, ...]]  # who, with which scopes


def test_every_root_field_is_in_the_table() -> None:
    assert SCHEMA.mutation_type is not None
    assert SCHEMA.query_type is not None
    assert [name for name in SCHEMA.mutation_type.fields if name not in access.MUTATIONS or name not in MUTATIONS] == []
    assert SCHEMA.subscription_type is not None
    assert [name for name in SCHEMA.subscription_type.fields if name not in access.STREAMS or name not in STREAMS] == []
    assert [name for name in SCHEMA.query_type.fields if name not in access.READINGS or name not in READINGS] == []


@pytest.mark.parametrize("name", sorted(SCHEMA.mutation_type.fields.keys() & MUTATIONS.keys()))  # type: ignore[union-attr]
async def test_a_mutation_is_done_for_whoever_may_and_for_nobody_else(sqlite_stages: Stages, tmp_path: Path, name: str) -> None:
    rule, scenario = access.MUTATIONS[name], MUTATIONS[name]
    expected = {case: rule.answer(case[0], has_scope=_has(rule, case), by=scenario.by) for case in _cases(rule)}

    answered = await _refused(sqlite_stages, tmp_path, name, [case for case in expected if expected[case] != DONE])
    for case in expected.keys() - answered.keys():
        async with sqlite_stages.one(tmp_path, billing=scenario.billing) as stage:
            given = await scenario.prepare(stage)
            await stage.limit(case[1])
            answered[case] = await stage.call(case[0], name, given)

    assert _shown(answered, rule) == _shown(expected, rule)


async def _refused(stages: Stages, tmp_path: Path, name: str, cases: list[Case]) -> dict[Case, str]:
    """What each is answered, one after the other on one stage; a case that changed something shows that it did."""
    answered = {}
    async with stages.one(tmp_path, billing=MUTATIONS[name].billing) as stage:
        given = await MUTATIONS[name].prepare(stage)
        for case in cases:
            answered[case] = await _call_and_compare(stage, case, name, given)
    return answered


async def _call_and_compare(stage: Stage, case: Case, name: str, given: Mapping[str, Any]) -> str:
    await stage.limit(case[1])
    before = await whatever_a_refusal_must_leave_alone()
    answer = await stage.call(case[0], name, given)
    return answer if await whatever_a_refusal_must_leave_alone() == before else f"{answer}, and something changed"


@pytest.mark.parametrize("name", sorted(SCHEMA.query_type.fields.keys() & READINGS.keys()))  # type: ignore[union-attr]
async def test_a_field_of_query_is_answered_to_whoever_may_read_it(sqlite_stages: Stages, tmp_path: Path, name: str) -> None:
    rule, reading = access.READINGS[name], READINGS[name]
    answered, expected = {}, {}
    async with sqlite_stages.one(tmp_path) as stage:
        variables = await reading.prepare(stage)
        for case in _cases(rule):
            await stage.limit(case[1])
            answered[case] = await stage.read(case[0], reading.text, variables)
            answer = rule.answer(case[0], has_scope=_has(rule, case), by=None)
            expected[case] = NULL if answer == NOT_FOUND and not getattr(rule, "refuses", False) else answer

    assert _shown(answered, rule) == _shown(expected, rule)


@pytest.mark.parametrize("name", sorted(SCHEMA.subscription_type.fields.keys() & STREAMS.keys()))  # type: ignore[union-attr]
async def test_a_stream_begins_for_whoever_may_follow_and_for_nobody_else(sqlite_stages: Stages, tmp_path: Path, name: str) -> None:
    rule, streaming = access.STREAMS[name], STREAMS[name]
    answered, expected = {}, {}
    async with sqlite_stages.one(tmp_path) as stage:
        variables = await streaming.prepare(stage)
        for case in _cases(rule):
            await stage.limit(case[1])
            answered[case] = await stage.follow(case[0], streaming.text, variables)
            expected[case] = rule.answer(case[0], has_scope=_has(rule, case), by=None)

    assert _shown(answered, rule) == _shown(expected, rule)


def _cases(rule: Rule) -> Iterator[Case]:
    for who in EVERYBODY if isinstance(rule, Team) else [each for each in EVERYBODY if each not in ENTRUSTED]:
        yield who, EVERY_SCOPE
        if who in SCOPED and rule.scope:
            yield who, tuple(scope for scope in EVERY_SCOPE if scope != rule.scope)


def _has(rule: Rule, case: Case) -> bool:
    return rule.scope in case[1]


def _shown(answers: Mapping[Case, str], rule: Rule) -> dict[str, str]:
    """By name, for a failure that reads well."""
    return {f"{case[0]}{'' if len(case[1]) == len(EVERY_SCOPE) else f' without {rule.scope}'}": answers[case] for case in answers}
