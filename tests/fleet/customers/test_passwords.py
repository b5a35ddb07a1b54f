"""What customers do by mail: proving an address and setting a new password, in letters that are the maker's."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from auth import throttle
from mailer import Mail
from models.account import Token
from models.customer import Customer, MailedProof
from tests.customers import LAMP, a_device, answer, codes, imported, lamp, sign_up
from tests.house import PASSWORD, HouseTester
from tests.stored import everything, whatever_a_refusal_must_leave_alone

NEW = "seven otters juggle at noon"
KIM = "kim@example.com"


async def last_letter(tester: HouseTester) -> Mail:
    return (await tester.letters())[-1]


def code_in(letter: Mail) -> str:
    (line,) = [line for line in letter.text.splitlines() if line.startswith(("flr_", "flv_"))]
    return line


async def request(tester: HouseTester, username: str = KIM) -> Any:
    return await tester.do("requestCustomerPasswordReset", "clientMutationId", productId=LAMP, username=username)


async def reset(tester: HouseTester, code: str, new: str = NEW) -> Any:
    return await tester.do("resetCustomerPassword", "clientMutationId", resetToken=code, new=new)


async def verify(tester: HouseTester, code: str) -> Any:
    return await tester.do("verifyCustomerEmail", "clientMutationId", verificationToken=code)


async def log_in(tester: HouseTester, password: str) -> list[str]:
    return codes(await tester.do("logInCustomer", "token", productId=LAMP, username=KIM, password=password))


async def test_letters_are_in_the_organizations_name_and_never_in_ours(tester: HouseTester) -> None:
    await lamp(tester)
    await sign_up(tester, KIM)
    await request(tester)
    await reset(tester, code_in(await last_letter(tester)))

    letters = (await tester.letters())[-3:]

    assert [letter.sender_name for letter in letters] == ["Acme"] * 3
    assert [letter.to for letter in letters] == [KIM] * 3
    assert [letter.subject for letter in letters] == [
        "Your e-mail address for Lamp",
        "A new password for Lamp",
        "Your password for Lamp was changed",
    ]
    ours = ("flotilla", tester.house.settings.public_url)
    assert [word for letter in letters for word in ours if word in f"{letter.subject}\n{letter.text}".lower()] == []


async def test_the_code_out_of_the_letter_proves_the_address_once(tester: HouseTester) -> None:
    await lamp(tester)
    kim = await sign_up(tester, KIM)
    own = "{ viewer { customer { email emailVerifiedAt } } }"
    before = (await tester.ask(own, kim))["viewer"]["customer"]
    code = code_in(await last_letter(tester))

    first, second = await verify(tester, code), await verify(tester, code)

    assert before == {"email": KIM, "emailVerifiedAt": None}
    assert (codes(first), codes(second)) == ([], ["WRONG_CREDENTIALS"])
    assert (await tester.ask(own, kim))["viewer"]["customer"]["emailVerifiedAt"] is not None
    assert (await tester.audited())[-1] == "customer.email_verified"
    assert code not in str(await everything())


async def test_a_customer_without_an_address_is_sent_nothing(tester: HouseTester) -> None:
    await lamp(tester)
    await sign_up(tester, "kim")

    payload = await request(tester, "kim")

    assert (codes(payload), await tester.letters()) == ([], [])


async def test_a_new_password_ends_every_session_and_proves_the_address(tester: HouseTester) -> None:
    await lamp(tester)
    kim = await sign_up(tester, KIM)
    await request(tester, "KIM@example.com")
    code = code_in(await last_letter(tester))

    first, second = await reset(tester, code), await reset(tester, code, "eight otters juggle at noon")

    assert (codes(first), codes(second)) == ([], ["WRONG_CREDENTIALS"])
    with pytest.raises(Exception, match="not good any more"):
        await tester.ask("{ viewer { kind } }", kim)
    assert (await log_in(tester, PASSWORD), await log_in(tester, NEW)) == (["WRONG_CREDENTIALS"], [])
    assert (await Customer.get()).email_verified_at is not None
    assert (await tester.audited())[-3:-1] == ["customer.reset_requested", "customer.password_changed"]


async def test_an_imported_customer_comes_into_an_account_with_devices_by_mail(tester: HouseTester) -> None:
    owner = await lamp(tester)
    await imported(tester, owner, KIM)
    await a_device(owner=await Customer.get())
    refused = await tester.do("signUpCustomer", "token", productId=LAMP, username=KIM, password=PASSWORD)
    await request(tester)

    payload = await reset(tester, code_in(await last_letter(tester)))

    assert codes(refused) == ["ALREADY_EXISTS"]
    assert (codes(payload), await log_in(tester, NEW)) == ([], [])


async def test_five_who_use_one_code_at_once_set_one_password(postgres_tester: HouseTester) -> None:
    await lamp(postgres_tester)
    await sign_up(postgres_tester, KIM)
    await request(postgres_tester)
    code = code_in(await last_letter(postgres_tester))

    answers = await asyncio.gather(*(reset(postgres_tester, code, f"{number} otters juggle at noon") for number in range(5)))

    assert sorted(each for payload in answers for each in codes(payload)) == ["WRONG_CREDENTIALS"] * 4
    assert (await postgres_tester.audited()).count("customer.password_changed") == 1


@pytest.mark.parametrize("which", ["expired", "unknown", "mistyped", "of the other purpose", "weak"])
async def test_a_code_or_password_that_is_no_good_sets_nothing(tester: HouseTester, which: str) -> None:
    await lamp(tester)
    await sign_up(tester, KIM)
    proof = code_in(await last_letter(tester))
    await request(tester)
    code = code_in(await last_letter(tester))
    if which == "expired":
        await MailedProof.all().update(expires_at=datetime.now(UTC))
    if which == "unknown":
        await MailedProof.all().delete()
    given = {"mistyped": code[:-1] + ("A" if code[-1] != "A" else "B"), "of the other purpose": proof}.get(which, code)
    before = await whatever_a_refusal_must_leave_alone()

    payload = await reset(tester, given, "fourteen chars" if which == "weak" else NEW)

    expected = ("PASSWORD_TOO_WEAK", ["input", "new"]) if which == "weak" else ("WRONG_CREDENTIALS", ["input", "resetToken"])
    assert [(error["code"], error["path"]) for error in payload["errors"]] == [expected]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_reset_for_an_unknown_name_is_answered_alike_and_sends_nothing(tester: HouseTester) -> None:
    await lamp(tester)
    await sign_up(tester, KIM)
    before = await whatever_a_refusal_must_leave_alone()

    unknown = await request(tester, "eve@example.com")
    unchanged = await whatever_a_refusal_must_leave_alone() == before

    assert unknown == await request(tester)
    assert unchanged


async def ask_again(tester: HouseTester, username: str = KIM) -> Any:
    return await tester.do("requestCustomerEmailVerification", "clientMutationId", productId=LAMP, username=username)


async def test_a_lost_letter_is_sent_once_more_while_the_address_is_not_proved(tester: HouseTester) -> None:
    await lamp(tester)
    await sign_up(tester, KIM)
    first = code_in(await last_letter(tester))

    again = await ask_again(tester, " KIM@example.com")

    letters = await tester.letters()
    assert (codes(again), len(letters), letters[-1].subject) == ([], 2, "Your e-mail address for Lamp")
    assert code_in(letters[-1]) != first
    assert (await tester.audited())[-1] == "customer.verification_requested"
    assert codes(await verify(tester, code_in(letters[-1]))) == []
    before = await whatever_a_refusal_must_leave_alone()
    assert [await ask_again(tester), await ask_again(tester, "eve@example.com")] == [again, again], "proved, and unknown"
    assert await whatever_a_refusal_must_leave_alone() == before


async def change(tester: HouseTester, token: str, current: str = PASSWORD, new: str = NEW) -> Any:
    return await tester.do("changeCustomerPassword", "clientMutationId", token, current=current, new=new)


async def test_who_is_logged_in_changes_the_password_and_stays_alone(tester: HouseTester) -> None:
    await lamp(tester)
    kim = await sign_up(tester, KIM)
    other = (await tester.do("logInCustomer", "token", productId=LAMP, username=KIM, password=PASSWORD))["token"]
    await request(tester)
    mailed = code_in(await last_letter(tester))

    assert codes(await change(tester, kim)) == []

    assert (await tester.ask("{ viewer { kind } }", kim))["viewer"]["kind"] == "CUSTOMER"
    with pytest.raises(Exception, match="not good any more"):
        await tester.ask("{ viewer { kind } }", other)
    assert codes(await reset(tester, mailed, "eight otters juggle at noon")) == ["WRONG_CREDENTIALS"], "a code from before"
    assert (await log_in(tester, PASSWORD), await log_in(tester, NEW)) == (["WRONG_CREDENTIALS"], [])
    assert (await last_letter(tester)).subject == "Your password for Lamp was changed"
    assert (await tester.audited())[-2] == "customer.password_changed"


async def test_a_wrong_or_weak_password_or_a_lesser_token_changes_nothing(tester: HouseTester) -> None:
    await lamp(tester)
    kim = await sign_up(tester, KIM)
    before = await whatever_a_refusal_must_leave_alone()

    wrong, weak = await change(tester, kim, "not the password at all"), await change(tester, kim, new="short")

    assert [(error["code"], error["path"]) for error in wrong["errors"] + weak["errors"]] == [
        ("WRONG_CREDENTIALS", ["input", "current"]), ("PASSWORD_TOO_WEAK", ["input", "new"])
    ]  # fmt: skip
    await Token.filter(customer_id__not_isnull=True).update(scopes=["devices:read"])
    assert [(error["code"], error["reason"]) for error in (await change(tester, kim))["errors"]] == [("FORBIDDEN", "SESSION")]
    await Token.filter(customer_id__not_isnull=True).update(scopes=[])
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_of_five_who_change_it_at_once_one_does(postgres_tester: HouseTester) -> None:
    await lamp(postgres_tester)
    kim = await sign_up(postgres_tester, KIM)

    answers = await asyncio.gather(*(change(postgres_tester, kim, new=f"{number} otters juggle at noon") for number in range(5)))

    assert sorted(each for payload in answers for each in codes(payload)) == ["WRONG_CREDENTIALS"] * 4
    assert (await postgres_tester.audited()).count("customer.password_changed") == 1


async def test_where_accounts_are_not_kept_here_nobody_sets_a_password(tester: HouseTester) -> None:
    owner = await lamp(tester)
    await sign_up(tester, KIM)
    await request(tester)
    code = code_in(await last_letter(tester))
    await answer(tester, owner, LAMP, "TWO_LEGGED")
    before = await whatever_a_refusal_must_leave_alone()

    refused = [await request(tester), await reset(tester, code)]

    assert [codes(each) for each in refused] == [["WRONG_AUTH_METHOD"]] * 2
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_one_customer_is_sent_ten_letters_an_hour_and_nobody_is_told(slowing_tester: HouseTester) -> None:
    await lamp(slowing_tester)
    await sign_up(slowing_tester, KIM)
    before = len(await slowing_tester.letters())

    answers = [await request(slowing_tester) for _ in range(10)]
    here = throttle.resets_from("127.0.0.1")
    await slowing_tester.house.throttle.give_back(here, now=datetime.now(UTC))  # as if the next came from another address
    answers.append(await request(slowing_tester))

    assert [codes(each) for each in answers] == [[]] * 11
    assert len(await slowing_tester.letters()) == before + 10


async def test_codes_cannot_be_guessed_at_full_speed(slowing_tester: HouseTester) -> None:
    tried = [codes(await reset(slowing_tester, f"flr_{number}")) for number in range(11)]

    assert tried == [["WRONG_CREDENTIALS"]] * 10 + [["RATE_LIMITED"]]
