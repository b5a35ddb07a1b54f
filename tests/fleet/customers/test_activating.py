"""Activation codes of a private beta: given out, spent once, and not to be guessed."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.customers import activating
from models.customer import Customer
from models.device import Device
from models.operations import AuditEntry
from settings import Settings
from tests.customers import IDS, LAMP, a_device, activation_of, codes, imported, lamp, owner_of, sign_up
from tests.house import HouseTester, open_house
from tests.stored import whatever_a_refusal_must_leave_alone

DEVICE = "device { deviceId owner { username } }"


async def beta(tester: HouseTester) -> tuple[str, str, str]:
    """The owner's token, that of the customer kim, and kim's activation code; a device waits to be claimed."""
    owner = await lamp(tester, beta=True)
    (code,) = await imported(tester, owner, "kim")
    await a_device()
    return owner, await sign_up(tester, "kim"), code


def wrong(code: str) -> str:
    """Another code."""
    return f"{'A' if code[0] != 'A' else 'B'}{code[1:]}"


async def claim(tester: HouseTester, token: str, code: str | None, device_id: str = IDS[0]) -> list[tuple[str, str | None]]:
    payload = await tester.do("claimDevice", DEVICE, token, deviceId=device_id, activationCode=code)
    return [(error["code"], error["reason"]) for error in payload["errors"]]


def test_codes_hold_no_characters_that_people_take_for_each_other() -> None:
    assert "".join(letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789" if letter not in "ILO") == activating.ALPHABET


async def test_the_code_in_any_case_claims_one_device_and_no_second(tester: HouseTester) -> None:
    _, kim, code = await beta(tester)
    await a_device(IDS[1])

    first = await claim(tester, kim, f" {code.lower()} ")
    second = await claim(tester, kim, code, IDS[1])

    assert (first, second) == ([], [("ACTIVATION_CODE_USED", None)])
    assert (await owner_of(IDS[0]), await owner_of(IDS[1])) == ("kim", None)
    assert await activation_of("kim") == "USED"


async def test_without_the_code_nothing_is_claimed_and_nothing_counted(tester: HouseTester) -> None:
    _, kim, _ = await beta(tester)
    before = await whatever_a_refusal_must_leave_alone()

    refused = await claim(tester, kim, None)

    assert refused == [("ACTIVATION_CODE_REQUIRED", None)]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_nobody_claims_by_somebody_elses_code(tester: HouseTester) -> None:
    owner, kim, code = await beta(tester)
    (other,) = await imported(tester, owner, "zoe")
    eve = await sign_up(tester, "eve")  # who was never imported

    refused = [await claim(tester, kim, other), await claim(tester, eve, code)]

    assert refused == [[("ACTIVATION_CODE_WRONG", None)]] * 2
    assert (await owner_of(), await activation_of("zoe"), await activation_of("kim")) == (None, "UNUSED", "UNUSED")


async def test_five_wrong_tries_in_a_row_stop_the_right_one_for_fifteen_minutes(tester: HouseTester) -> None:
    _, kim, code = await beta(tester)

    tried = [await claim(tester, kim, wrong(code)) for _ in range(5)]
    locked = await claim(tester, kim, code)
    state, until = await activation_of("kim"), (await Customer.get()).activation_paused_until
    assert until is not None
    await Customer.all().update(activation_paused_until=datetime.now(UTC))
    after = await claim(tester, kim, code)

    assert tried == [[("ACTIVATION_CODE_WRONG", None)]] * 4 + [[("ACTIVATION_CODE_WRONG", "LOCKED")]]
    assert (locked, state) == ([("ACTIVATION_CODE_WRONG", "LOCKED")], "LOCKED")
    assert timedelta(minutes=13) < until - datetime.now(UTC) <= timedelta(minutes=15)
    assert (after, await owner_of()) == ([], "kim")


async def test_after_ten_wrong_tries_only_a_new_code_helps(tester: HouseTester) -> None:
    owner, kim, code = await beta(tester)
    for _ in range(2):
        for _ in range(5):
            await claim(tester, kim, wrong(code))
        await Customer.all().update(activation_paused_until=None)
    (row,) = await Customer.all()
    node = f"{{ product(productId: {LAMP}) {{ customers {{ nodes {{ id activation activationCode }} }} }} }}"
    (shown,) = (await tester.ask(node, owner))["product"]["customers"]["nodes"]

    locked = await claim(tester, kim, code)
    payload = await tester.do("reissueActivationCode", "activationCode customer { activation }", owner, customerId=shown["id"])
    old, new = await claim(tester, kim, code), await claim(tester, kim, payload["activationCode"])

    assert (row.activation_wrong_in_all, locked) == (10, [("ACTIVATION_CODE_WRONG", "LOCKED")])
    assert (shown["activation"], shown["activationCode"]) == ("LOCKED", code)
    assert payload["customer"] == {"activation": "UNUSED"}
    assert (old, new) == ([("ACTIVATION_CODE_WRONG", None)], [])
    assert code not in str(await AuditEntry.all().values())


async def test_wrong_tries_of_another_process_count_here(migrated_postgres: Settings) -> None:
    async with open_house(migrated_postgres, process="p1") as one:
        first = HouseTester(one)
        _, kim, code = await beta(first)
        for _ in range(4):
            await claim(first, kim, wrong(code))
    async with open_house(migrated_postgres, process="p2") as other:
        second = HouseTester(other)

        tried = [await claim(second, kim, wrong(code)), await claim(second, kim, code)]

    assert tried == [[("ACTIVATION_CODE_WRONG", "LOCKED")]] * 2


async def test_of_twenty_guesses_at_once_five_are_looked_at(postgres_tester: HouseTester) -> None:
    _, kim, code = await beta(postgres_tester)

    answers = await asyncio.gather(*(claim(postgres_tester, kim, wrong(code)) for _ in range(20)))

    assert sorted(str(reason) for ((_, reason),) in answers) == ["LOCKED"] * 16 + ["None"] * 4
    assert (await Customer.get()).activation_wrong_in_all == 5


async def test_of_two_claims_on_one_code_at_once_one_is_made(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    _, kim, code = await beta(tester)
    await a_device(IDS[1])
    for _ in range(10):
        await Customer.all().update(activation_used_at=None)
        await Device.all().update(owner_id=None, claimed_at=None)

        answers = await asyncio.gather(*(claim(tester, kim, code, device_id) for device_id in IDS[:2]))

        assert sorted(answers) == [[], [("ACTIVATION_CODE_USED", None)]]
        assert await Device.filter(owner_id=None).count() == 1


async def test_a_device_that_cannot_be_claimed_tells_nothing_of_the_code(tester: HouseTester) -> None:
    _, kim, code = await beta(tester)
    await a_device(IDS[1], state="QUARANTINED")
    before = await whatever_a_refusal_must_leave_alone()

    refused = [await claim(tester, kim, each, device_id) for each in (code, wrong(code)) for device_id in IDS[1:3]]

    assert refused == [[("DEVICE_NOT_CLAIMABLE", None)], [("NOT_FOUND", None)]] * 2
    assert await whatever_a_refusal_must_leave_alone() == before


@pytest.mark.parametrize("role", ["SUPPORT", "VIEWER"])
async def test_below_developer_and_to_the_customer_codes_are_not_shown(tester: HouseTester, role: str) -> None:
    owner, kim, code = await beta(tester)
    bob = await tester.member(owner, "bob", role)
    asked = f"{{ product(productId: {LAMP}) {{ customers {{ nodes {{ activationCode }} }} }} }}"

    seen: list[Any] = [(await tester.ask(asked, token))["product"]["customers"]["nodes"] for token in (owner, bob)]
    own = await tester.ask("{ viewer { customer { activationCode activation } } }", kim)

    assert seen == [[{"activationCode": code}], [{"activationCode": None}]]
    assert own["viewer"]["customer"] == {"activationCode": None, "activation": "UNUSED"}


# ── importing ──
ROWS = "created { activationCode customer { username activation } } rejected { line username code }"


async def test_an_import_gives_each_customer_a_code_and_each_other_line_a_verdict(tester: HouseTester) -> None:
    owner = await lamp(tester, beta=True)
    await tester.do("createCustomer", "clientMutationId", owner, productId=LAMP, username="Zoe")
    names = ["kim@example.com", "", "KIM@example.com", "zoe", "a\x00b", "ann"]

    payload = await tester.do("importCustomers", ROWS, owner, productId=LAMP, usernames=names)

    assert codes(payload) == []
    assert [each["customer"] for each in payload["created"]] == [
        {"username": "kim@example.com", "activation": "UNUSED"},
        {"username": "ann", "activation": "UNUSED"},
    ]
    given = [each["activationCode"] for each in payload["created"]]
    assert all(len(code) == 4 and set(code) <= set(activating.ALPHABET) for code in given)
    assert payload["rejected"] == [
        {"line": 3, "username": "KIM@example.com", "code": "ALREADY_EXISTS"},
        {"line": 4, "username": "zoe", "code": "ALREADY_EXISTS"},
        {"line": 5, "username": "a\x00b", "code": "INVALID_INPUT"},
    ]
    entry = await AuditEntry.get(action="customer.imported")
    assert (entry.subject, entry.detail) == (f"product:{LAMP}", {"usernames": ["kim@example.com", "ann"]})


async def test_the_same_import_again_makes_nobody_and_says_so(tester: HouseTester) -> None:
    owner = await lamp(tester, beta=True)
    await imported(tester, owner, "kim", "ann")
    before = await tester.audited(), await Customer.all().order_by("id").values()

    payload = await tester.do("importCustomers", ROWS, owner, productId=LAMP, usernames=["kim", "ann"])

    assert (codes(payload), payload["created"], len(payload["rejected"])) == (["ALREADY_EXISTS"], [], 2)
    assert (await tester.audited(), await Customer.all().order_by("id").values()) == before


@pytest.mark.parametrize("given", [{}, {"usernames": []}, {"usernames": ["kim"] * 251}])
async def test_an_import_of_nothing_or_of_too_much_is_refused(tester: HouseTester, given: dict[str, Any]) -> None:
    owner = await lamp(tester)

    payload = await tester.do("importCustomers", ROWS, owner, productId=LAMP, **given)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "usernames"])]
    assert await Customer.all().count() == 0


async def test_two_imports_of_the_same_names_at_once_make_each_customer_once_with_a_code_of_its_own(postgres_tester: HouseTester) -> None:
    owner = await lamp(postgres_tester)
    names = [f"kim-{number}" for number in range(200)]

    answers = await asyncio.gather(*(postgres_tester.do("importCustomers", ROWS, owner, productId=LAMP, usernames=names) for _ in range(3)))

    assert sorted(len(each["created"]) for each in answers) == [0, 0, 200]
    assert len({customer.activation_code for customer in await Customer.all()}) == 200
