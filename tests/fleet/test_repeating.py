"""Idempotency keys: one effect for all calls with a key, the same answer to each, and what becomes of a call that died."""

import asyncio
import contextvars
import io
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.datastructures import UploadFile

from auth.credentials import viewer_of
from errors import AlreadyExists, RateLimited
from fleet import repeating
from fleet.repeating import Answer, Asked, once
from models.account import ApiUser, Token
from models.importing import Import
from models.operations import KeyedCall
from models.organization import Member, Organization
from models.product import Product
from models.transaction import transaction
from tests.firmware_house import Sent, binary, device
from tests.house import GraphQLFailed, HouseTester
from tests.stored import everything, whatever_a_refusal_must_leave_alone

MISUSED = [("INVALID_INPUT", ["input", "idempotencyKey"])]


async def make(tester: HouseTester, token: str, key: str | None, answer: str = "product { productId name }", **more: Any) -> dict[str, Any]:
    given = {"organization": "acme", "name": "Lamp", "platform": "PHOTON"} | more
    return await tester.do("createProduct", answer, token, idempotencyKey=key, **given)


def refusals(payload: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
    return [(error["code"], error["path"]) for error in payload["errors"]]


async def age(**by: float) -> None:
    """Make every call of a key look so much older."""
    for call in await KeyedCall.all():
        since = timedelta(**by)
        await KeyedCall.filter(id=call.id).update(claimed_at=call.claimed_at - since, lapses_at=call.lapses_at - since)


# ── the same, and another ──
async def test_a_repeated_call_is_answered_whatever_it_asks_for_and_does_nothing(tester: HouseTester) -> None:
    owner = await tester.owner()
    first = await make(tester, owner, "a", "clientMutationId product { id }", clientMutationId="one")
    before = await whatever_a_refusal_must_leave_alone()

    again = await make(tester, owner, "a", "clientMutationId product { id name organization { slug } }", clientMutationId="two")

    assert again["errors"] == []
    assert (first["clientMutationId"], again["clientMutationId"]) == ("one", "two")
    assert again["product"] == {"id": first["product"]["id"], "name": "Lamp", "organization": {"slug": "acme"}}
    assert await whatever_a_refusal_must_leave_alone() == before
    assert (await tester.audited()).count("product.created") == 1


async def test_without_a_key_each_call_acts(tester: HouseTester) -> None:
    owner = await tester.owner()

    numbers = {(await make(tester, owner, key))["product"]["productId"] for key in (None, None, "a", "b")}

    assert len(numbers) == 4


async def test_another_input_under_a_used_key_is_refused(tester: HouseTester) -> None:
    owner = await tester.owner()
    await make(tester, owner, "a")
    before = await whatever_a_refusal_must_leave_alone()

    others: list[dict[str, Any]] = [{"name": "Fan"}, {"description": "It shines."}, {"description": None}]
    assert [refusals(await make(tester, owner, "a", **other)) for other in others] == [MISUSED] * 3
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_another_mutation_under_a_used_key_is_refused(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = (await make(tester, owner, "a"))["product"]["productId"]
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("createDeviceGroup", "group { id }", owner, productId=number, name="emea", idempotencyKey="a")

    assert (payload["group"], refusals(payload)) == (None, MISUSED)
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_key_has_1_to_200_characters(tester: HouseTester) -> None:
    owner = await tester.owner()
    before = await whatever_a_refusal_must_leave_alone()

    assert [refusals(await make(tester, owner, key)) for key in ("", "k" * 201)] == [MISUSED] * 2
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_any_characters_make_a_key(tester: HouseTester) -> None:
    owner = await tester.owner()

    numbers = {(await make(tester, owner, key))["product"]["productId"] for key in ("\0", "\ud800", "é" * 200, "k" * 200) for _ in "12"}

    assert len(numbers) == 4


# ── whose a key is ──
async def test_two_people_may_choose_the_same_key(tester: HouseTester) -> None:
    owner = await tester.owner()
    mate = await tester.member(owner, "bob", "DEVELOPER")

    numbers = {(await make(tester, token, "a"))["product"]["productId"] for token in (owner, mate)}

    assert len(numbers) == 2


async def test_a_key_is_the_persons_whichever_session_they_use(tester: HouseTester) -> None:
    owner = await tester.owner()
    first = await make(tester, owner, "a")
    session = await tester.do("logIn", "token", email="ann@example.com", password="a correct horse for the tests")

    assert await make(tester, session["token"], "a") == first


async def test_a_weaker_token_is_not_answered_what_a_session_was(tester: HouseTester) -> None:
    owner = await tester.owner()
    asked = {"name": "ci", "scopes": ["devices:read"], "idempotencyKey": "a"}
    program = (await tester.do("createAccessToken", "token", owner, **asked))["token"]
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("createAccessToken", "token", program, **asked)

    assert (payload["token"], refusals(payload)) == (None, MISUSED)
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_nobody_has_no_keys(tester: HouseTester) -> None:
    await tester.owner()

    with pytest.raises(GraphQLFailed) as refused:
        await make(tester, "", "a")

    assert refused.value.codes == ["UNAUTHENTICATED"]
    assert await KeyedCall.all().count() == 0


async def test_what_is_out_of_sight_by_now_is_not_answered(tester: HouseTester) -> None:
    owner = await tester.owner()
    mate = await tester.member(owner, "bob", "DEVELOPER")
    await make(tester, mate, "a")
    await Member.filter(user__email="bob@example.com").delete()
    before = await whatever_a_refusal_must_leave_alone()

    payload = await make(tester, mate, "a")

    assert (payload["product"], refusals(payload)) == (None, [("NOT_FOUND", ["input", "idempotencyKey"])])
    assert await whatever_a_refusal_must_leave_alone() == before


# ── what is kept ──
async def test_a_token_is_shown_again_and_is_in_no_dump(tester: HouseTester) -> None:
    owner = await tester.owner()
    asked = {"organization": "acme", "name": "ci", "scopes": ["devices:read"], "idempotencyKey": "a"}
    first = await tester.do("createApiUser", "token apiUser { id }", owner, **asked)

    assert await tester.do("createApiUser", "token apiUser { id }", owner, **asked) == first
    assert await ApiUser.all().count() == 1
    assert await Token.filter(api_user_id__not_isnull=True).count() == 1
    assert first["token"] not in str(await everything())


async def test_of_a_file_the_bytes_count_and_not_its_name(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    asked = {"productId": number, "title": "One", "idempotencyKey": "a"}
    content, another = binary(number, 1), binary(number, 2)
    fields = "firmware { id version fileName }"

    first = await tester.do("uploadFirmware", fields, owner, **asked, binary=Sent(content, "one.bin"))
    again = await tester.do("uploadFirmware", fields, owner, **asked, binary=Sent(content, "two.bin"))
    other = await tester.do("uploadFirmware", fields, owner, **asked, binary=Sent(another, "one.bin"))

    assert (first["errors"], again) == ([], first)
    assert first["firmware"]["fileName"] == "one.bin"
    assert refusals(other) == MISUSED


async def test_the_same_file_again_is_no_second_import(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)

    async def ask(lines: bytes) -> dict[str, Any]:
        file = UploadFile(io.BytesIO(lines))
        return await tester.do("importDevices", "import { id added }", owner, productId=number, file=file, idempotencyKey="a")

    first = await ask(b"0" * 24)

    assert first["import"]["added"] == 1
    assert await ask(b"0" * 24) == first
    assert refusals(await ask(b"1" * 24)) == MISUSED
    assert await Import.all().count() == 1


async def test_devices_that_were_refused_are_answered_again(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    await tester.do("uploadFirmware", "firmware { id }", owner, productId=number, title="One", binary=Sent(binary(number, 1)))
    ids = [(await device(number, 1)).device_id, f"{9:024x}"]
    asked = {"productId": number, "firmwareVersion": 1, "when": "ON_RESET", "deviceIds": ids, "idempotencyKey": "a"}
    fields = "devices { deviceId } rejected { deviceId code message }"

    first = await tester.do("lockAndFlash", fields, owner, **asked)

    assert [each["deviceId"] for each in first["devices"]] == ids[:1]
    assert [(each["deviceId"], each["code"]) for each in first["rejected"]] == [(ids[1], "NOT_FOUND")]
    assert await tester.do("lockAndFlash", fields, owner, **asked) == first


async def test_a_refused_call_may_be_repeated(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    asked = {"productId": number, "firmwareVersion": 1, "when": "ON_RESET", "deviceIds": [f"{1:024x}"], "idempotencyKey": "a"}
    await tester.do("uploadFirmware", "firmware { id }", owner, productId=number, title="One", binary=Sent(binary(number, 1)))
    assert refusals(await tester.do("lockAndFlash", "devices { id }", owner, **asked)) == [("NOT_FOUND", ["input", "deviceIds"])]
    assert await KeyedCall.all().count() == 0
    await device(number, 1)

    payload = await tester.do("lockAndFlash", "devices { deviceId }", owner, **asked)

    assert (payload["errors"], payload["devices"]) == ([], [{"deviceId": f"{1:024x}"}])


async def test_after_24_hours_a_key_is_new(tester: HouseTester) -> None:
    owner = await tester.owner()
    first = await make(tester, owner, "a")
    await age(hours=23, minutes=59)
    assert await make(tester, owner, "a") == first
    assert await repeating.forget_old(datetime.now(UTC)) == 0

    await age(minutes=2)
    payload = await make(tester, owner, "a", name="Fan")

    assert payload["product"]["name"] == "Fan"
    await age(hours=25)
    assert await repeating.forget_old(datetime.now(UTC)) == 1
    assert await KeyedCall.all().count() == 0


# ── at once ──
async def test_of_ten_calls_at_once_one_acts_and_all_are_answered_alike(postgres_tester: HouseTester) -> None:
    owner = await postgres_tester.owner()

    answers = await asyncio.gather(*(make(postgres_tester, owner, "a") for _ in range(10)))

    assert answers[0]["errors"] == []
    assert answers == answers[:1] * 10
    assert await Product.all().count() == 1
    assert (await postgres_tester.audited()).count("product.created") == 1


async def test_of_ten_calls_at_once_after_a_death_one_acts(postgres_tester: HouseTester) -> None:
    owner = await postgres_tester.owner()
    await _dies(postgres_tester, owner, _nothing)
    await age(seconds=61)

    answers = await asyncio.gather(*(make(postgres_tester, owner, "a") for _ in range(10)))

    assert answers == answers[:1] * 10
    assert await Product.all().count() == 1


async def test_whoever_waits_too_long_for_the_first_is_told_so(tester: HouseTester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeating, "WAIT_S", 0.1)
    owner = await tester.owner()
    await _dies(tester, owner, _nothing)

    assert refusals(await make(tester, owner, "a")) == [("RATE_LIMITED", ["input", "idempotencyKey"])]
    assert await Product.all().count() == 0


# ── death in the middle ──
Act = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    pass


async def _renames() -> None:
    async with transaction():
        await Organization.all().update(name="Renamed")


async def _asked(tester: HouseTester, token: str) -> Asked:
    by = await viewer_of(f"Bearer {token}", address=None, now=datetime.now(UTC))
    return Asked("a", "createProduct", {"organization": "acme", "name": "Lamp", "platform": "PHOTON"}, by)


async def _dies(tester: HouseTester, token: str, act: Act) -> None:
    """The first call with the key "a" gets as far as `act`; then its process is gone, and cleans up nothing."""

    async def falls_silent() -> Answer:
        await act()
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    reached = asyncio.Event()
    call = asyncio.create_task(once(await _asked(tester, token), falls_silent, house=tester.house))
    await reached.wait()
    left = await KeyedCall.get()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await KeyedCall.all().delete()
    await left.clone(pk=left.pk).save(force_create=True)


async def test_a_call_that_died_before_it_acted_lapses_after_a_minute(tester: HouseTester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeating, "WAIT_S", 0.05)
    owner = await tester.owner()
    await _dies(tester, owner, _nothing)
    await age(seconds=58)
    assert refusals(await make(tester, owner, "a"))[0][0] == "RATE_LIMITED"

    await age(seconds=3)
    payload = await make(tester, owner, "a")

    assert (payload["errors"], payload["product"]["name"]) == ([], "Lamp")


async def test_a_call_that_died_after_it_acted_is_never_done_again(tester: HouseTester) -> None:
    owner = await tester.owner()
    await _dies(tester, owner, _renames)
    await age(seconds=61)
    before = await whatever_a_refusal_must_leave_alone()

    payload = await make(tester, owner, "a")

    assert [(error["code"], error["reason"]) for error in payload["errors"]] == [("ALREADY_EXISTS", "ANSWER_LOST")]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_call_that_was_overtaken_changes_nothing(tester: HouseTester) -> None:
    owner = await tester.owner()
    answers = []

    async def is_overtaken() -> Answer:
        await age(seconds=61)
        answers.append(await _in_its_own_task(make(tester, owner, "a")))
        await _renames()
        raise AssertionError("it was let through")

    with pytest.raises(RateLimited):
        await once(await _asked(tester, owner), is_overtaken, house=tester.house)

    assert (await Organization.get()).name == "Acme"
    assert await make(tester, owner, "a") == answers[0]


async def _in_its_own_task(call: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """As it is for a call of another request: nothing of this one's context."""
    return await asyncio.get_running_loop().create_task(_awaited(call), context=contextvars.Context())


async def _awaited(call: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    return await call


@pytest.mark.parametrize("failure", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_call_that_failed_before_it_acted_may_be_repeated_at_once(tester: HouseTester, failure: type[BaseException]) -> None:
    owner = await tester.owner()

    async def fails() -> Answer:
        async with transaction():
            await Organization.all().update(name="Renamed")
            raise failure

    with pytest.raises(failure):
        await once(await _asked(tester, owner), fails, house=tester.house)

    assert await KeyedCall.all().count() == 0
    assert (await make(tester, owner, "a"))["errors"] == []


async def test_a_call_that_failed_after_it_acted_says_so_at_once(tester: HouseTester) -> None:
    owner = await tester.owner()

    async def fails() -> Answer:
        await _renames()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await once(await _asked(tester, owner), fails, house=tester.house)
    with pytest.raises(AlreadyExists):
        await once(await _asked(tester, owner), fails, house=tester.house)
