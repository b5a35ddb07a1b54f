"""The configuration of a product, and the gate before manufacturing."""

import asyncio
from typing import Any

import pytest

from fleet.products.configuring import answer_of
from fleet.products.questionnaire import QUESTIONS
from models.operations import AuditEntry
from models.product import Answer, Product
from tests.house import HouseTester

CONFIGURATION = """
    configuration {
        unanswered readyForManufacturing manufacturingStartedAt authMethod
        sections { name questions { key text effect options answer answeredAt } }
    }"""
PRODUCT = f"product {{ {CONFIGURATION} }}"
ALL = [{"key": key, "answer": question.options[0] if question.options else "We know."} for key, question in QUESTIONS.items()]


async def configuration(tester: HouseTester, token: str) -> Any:
    return (await tester.ask(f"{{ product(productId: 1000) {{ {CONFIGURATION} }} }}", token))["product"]["configuration"]


async def test_a_new_product_has_four_sections_of_open_questions(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)

    found = await configuration(tester, owner)

    questions = [question for section in found["sections"] for question in section["questions"]]
    assert [section["name"] for section in found["sections"]] == ["OVERVIEW", "WORKING_WITH_PLATFORM", "CUSTOMERS", "FIRMWARE"]
    assert [question["key"] for question in questions] == found["unanswered"] == list(QUESTIONS)
    assert {question["key"] for question in questions if question["effect"] == "BEHAVIOR"} == {"auth_method", "private_beta", "programming"}
    assert {question["key"]: question["options"] for question in questions if question["effect"] == "BEHAVIOR"} == {
        "auth_method": ["SIMPLE", "SELF_MANAGED", "TWO_LEGGED", "OAUTH"],
        "private_beta": ["YES", "NO"],
        "programming": ["ON_THE_LINE", "AT_SETUP"],
    }
    assert [(question["answer"], question["answeredAt"]) for question in questions] == [(None, None)] * len(QUESTIONS)
    assert (found["readyForManufacturing"], found["manufacturingStartedAt"], found["authMethod"]) == (False, None, None)


async def test_several_answers_are_stored_at_once_and_audited_once(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    answers = [{"key": "auth_method", "answer": "two_legged"}, {"key": "purpose", "answer": "  It glows.  "}]

    payload = await tester.do("answerQuestions", PRODUCT, owner, productId=number, answers=answers)

    found = payload["product"]["configuration"]
    assert payload["errors"] == []
    assert found["authMethod"] == "TWO_LEGGED"
    assert found["unanswered"] == [key for key in QUESTIONS if key not in ("auth_method", "purpose")]
    product = await Product.get()
    assert [await answer_of(product, key) for key in ("auth_method", "purpose", "programming")] == ["TWO_LEGGED", "It glows.", None]
    entry = await AuditEntry.filter(action="product.questions_answered").get()
    assert entry.detail["after"] == {"auth_method": "TWO_LEGGED", "purpose": "It glows."}
    assert entry.detail["before"] == {"auth_method": None, "purpose": None}


async def test_an_answer_may_change_and_both_are_in_the_audit(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    await tester.do("answerQuestions", PRODUCT, owner, productId=number, answers=ALL)
    await tester.do("startManufacturing", PRODUCT, owner, productId=number)
    before = await tester.audited()

    changed = [{"key": "programming", "answer": "AT_SETUP"}, {"key": "private_beta", "answer": "YES"}]
    await tester.do("answerQuestions", PRODUCT, owner, productId=number, answers=changed)
    again = await tester.do("answerQuestions", PRODUCT, owner, productId=number, answers=changed)

    assert again["errors"] == []
    assert await tester.audited() == [*before, "product.questions_answered"]
    entry = await AuditEntry.filter(action="product.questions_answered").order_by("-id").first()
    assert entry is not None
    assert entry.detail == {"before": {"programming": "ON_THE_LINE"}, "after": {"programming": "AT_SETUP"}}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"key": "colour", "answer": "red"}, "key"),
        ({"key": "private_beta", "answer": "maybe"}, "answer"),
        ({"key": "test_group", "answer": "   "}, "answer"),
        ({"key": "test_group", "answer": "x" * 2001}, "answer"),
        ({"key": "auth_method", "answer": "OAUTH"}, "key"),
    ],
)
async def test_one_bad_answer_refuses_them_all(tester: HouseTester, wrong: dict[str, str], field: str) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    before = await tester.audited()

    good = {"key": "auth_method", "answer": "SIMPLE"}
    payload = await tester.do("answerQuestions", PRODUCT, owner, productId=number, answers=[good, wrong])

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "answers", "1", field])]
    assert payload["product"] is None
    assert await Answer.all().count() == 0
    assert await tester.audited() == before


async def test_manufacturing_does_not_start_while_a_question_is_open(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    answered = [answer for answer in ALL if answer["key"] not in ("auth_method", "returns")]
    await tester.do("answerQuestions", PRODUCT, owner, productId=number, answers=answered)
    before = await tester.audited()

    payload = await tester.do("startManufacturing", PRODUCT, owner, productId=number)

    assert [error["code"] for error in payload["errors"]] == ["UNANSWERED_QUESTIONS"]
    assert payload["errors"][0]["message"].endswith("first: auth_method, returns.")
    assert (await Product.get()).manufacturing_started_at is None
    assert await tester.audited() == before


async def test_manufacturing_starts_once(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    ready = await tester.do("answerQuestions", PRODUCT, owner, productId=number, answers=ALL)

    first = await tester.do("startManufacturing", PRODUCT, owner, productId=number)
    started_at = (await Product.get()).manufacturing_started_at
    second = await tester.do("startManufacturing", PRODUCT, owner, productId=number)

    assert ready["product"]["configuration"]["readyForManufacturing"] is True
    assert first["product"]["configuration"]["manufacturingStartedAt"] is not None
    assert [error["code"] for error in second["errors"]] == ["ALREADY_EXISTS"]
    assert (await Product.get()).manufacturing_started_at == started_at
    assert (await tester.audited()).count("product.manufacturing_started") == 1


async def test_of_two_starts_at_once_one_wins(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await tester.owner()
    number = await tester.product(owner)
    await tester.do("answerQuestions", PRODUCT, owner, productId=number, answers=ALL)

    answers = await asyncio.gather(*(tester.do("startManufacturing", PRODUCT, owner, productId=number) for _ in range(2)))

    assert [error["code"] for answer in answers for error in answer["errors"]] == ["ALREADY_EXISTS"]
    assert (await tester.audited()).count("product.manufacturing_started") == 1


async def test_the_same_answers_at_once_are_recorded_once(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await tester.owner()
    number = await tester.product(owner)

    answers = await asyncio.gather(*(tester.do("answerQuestions", PRODUCT, owner, productId=number, answers=ALL) for _ in range(3)))

    assert [answer["errors"] for answer in answers] == [[], [], []]
    assert await Answer.all().count() == len(QUESTIONS)
    assert (await tester.audited()).count("product.questions_answered") == 1


async def test_support_reads_the_configuration_but_does_not_answer(tester: HouseTester) -> None:
    owner, eve = await tester.owner(), await tester.owner("eve", "Other")
    number = await tester.product(owner)
    bob = await tester.member(owner, "bob", "SUPPORT")
    before = await tester.audited()

    refused = [
        await tester.do("answerQuestions", PRODUCT, bob, productId=number, answers=ALL),
        await tester.do("startManufacturing", PRODUCT, bob, productId=number),
        await tester.do("answerQuestions", PRODUCT, eve, productId=number, answers=ALL),
        await tester.do("startManufacturing", PRODUCT, eve, productId=number),
    ]

    assert [error["code"] for payload in refused for error in payload["errors"]] == ["FORBIDDEN"] * 2 + ["NOT_FOUND"] * 2
    assert len((await configuration(tester, bob))["unanswered"]) == len(QUESTIONS)
    assert await Answer.all().count() == 0
    assert await tester.audited() == before
