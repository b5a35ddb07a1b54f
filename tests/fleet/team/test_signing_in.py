"""People's accounts: signing up, sessions, passwords, and what slows down whoever guesses."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from auth import throttle
from auth.ledger import TableLedger
from auth.throttle import Throttle
from models.account import PasswordReset, Token, User
from tests.house import PASSWORD, GraphQLFailed, HouseTester
from tests.stored import everything, whatever_a_refusal_must_leave_alone

NEW_PASSWORD = "seven otters juggle at noon"
WHO = "{ viewer { kind user { email } } }"


def codes(payload: dict[str, object]) -> list[str]:
    return [error["code"] for error in payload["errors"]]  # type: ignore[attr-defined]


async def refused(tester: HouseTester, token: str) -> list[str | None]:
    """The codes with which a token is turned away; none if it is good."""
    try:
        await tester.ask(WHO, token)
    except Exception as refusal:  # whichever: its code and reason are what is looked at
        return [refusal.code, refusal.reason]  # type: ignore[attr-defined]
    return []


async def reset_token(tester: HouseTester) -> str:
    """The token out of the latest mail, which stands alone on its line."""
    letter = (await tester.letters())[-1]
    return next(line for line in letter.text.splitlines() if line.startswith("flr_"))


# ── signing up ──
async def test_signing_up_opens_an_account_and_logs_it_in(tester: HouseTester) -> None:
    answer = "token user { email name organization { slug } accessTokens { name } }"
    payload = await tester.do("signUp", answer, email=" Ann@Example.com ", password=PASSWORD, name="Ann")

    assert payload["errors"] == []
    assert payload["user"] == {"email": "Ann@Example.com", "name": "Ann", "organization": None, "accessTokens": [{"name": ""}]}
    assert await tester.ask(WHO, payload["token"]) == {"viewer": {"kind": "USER", "user": {"email": "Ann@Example.com"}}}
    assert await tester.audited() == ["account.signed_up"]


@pytest.mark.parametrize("again", ["ann@example.com", "ANN@EXAMPLE.COM", "ａｎｎ@example.com"])
async def test_an_address_has_one_account_however_it_is_written(tester: HouseTester, again: str) -> None:
    await tester.person()
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("signUp", "token", email=again, password=PASSWORD, name="Another")

    assert codes(payload) == ["ALREADY_EXISTS"]
    assert payload["errors"][0]["path"] == ["input", "email"]
    assert payload["token"] is None
    assert await whatever_a_refusal_must_leave_alone() == before


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("email", "ann", "INVALID_INPUT"),
        ("email", "ann@exam ple.com", "INVALID_INPUT"),
        ("email", f"{'a' * 250}@example.com", "INVALID_INPUT"),
        ("name", "  ", "INVALID_INPUT"),
        ("name", "a" * 101, "INVALID_INPUT"),
        ("name", "An\x00n", "INVALID_INPUT"),
        ("password", "fourteen chars", "PASSWORD_TOO_WEAK"),
        ("password", "passwordpassword", "PASSWORD_TOO_WEAK"),
        ("password", "x" * 1025, "INVALID_INPUT"),
    ],
)
async def test_what_cannot_be_an_account_is_refused_by_the_field(tester: HouseTester, field: str, value: str, code: str) -> None:
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("signUp", "token", **{"email": "ann@example.com", "password": PASSWORD, "name": "Ann", field: value})

    assert codes(payload) == [code]
    assert payload["errors"][0]["path"] == ["input", field]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_of_ten_who_sign_up_with_one_address_at_once_one_gets_it(postgres_tester: HouseTester) -> None:
    names = [f"ann{number}" for number in range(10)]

    answers = await asyncio.gather(
        *(postgres_tester.do("signUp", "token", email="ann@example.com", password=PASSWORD, name=name) for name in names)
    )

    assert sorted(code for answer in answers for code in codes(answer)) == ["ALREADY_EXISTS"] * 9
    assert await User.all().count() == 1
    assert await Token.all().count() == 1
    assert await postgres_tester.audited() == ["account.signed_up"]


# ── sessions ──
async def test_logging_in_gives_a_session_of_thirty_days_and_shows_the_team(tester: HouseTester) -> None:
    await tester.owner()

    answer = "token expiresAt user { email organization { slug members { role } } }"
    payload = await tester.do("logIn", answer, email="ANN@example.com", password=PASSWORD)

    assert payload["errors"] == []
    assert payload["user"] == {"email": "ann@example.com", "organization": {"slug": "acme", "members": [{"role": "OWNER"}]}}
    lasts = datetime.fromisoformat(payload["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < lasts <= timedelta(days=30)
    assert await refused(tester, payload["token"]) == []


@pytest.mark.parametrize(("email", "password"), [("ann@example.com", "not the password at all"), ("eve@example.com", PASSWORD), ("", "")])
async def test_a_wrong_password_and_an_unknown_address_are_answered_alike(tester: HouseTester, email: str, password: str) -> None:
    await tester.person()
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("logIn", "token user { id }", email=email, password=password)

    assert payload == {
        "token": None,
        "user": None,
        "errors": [{"code": "WRONG_CREDENTIALS", "message": "The address or the password is wrong.", "path": None, "reason": None}],
    }
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_logging_out_ends_the_token_that_asks_and_no_other(tester: HouseTester) -> None:
    first = await tester.person()
    second = (await tester.do("logIn", "token", email="ann@example.com", password=PASSWORD))["token"]

    await tester.do("logOut", "", first)

    assert await refused(tester, first) == ["UNAUTHENTICATED", None]
    assert await refused(tester, second) == []


async def test_an_expired_session_says_so(tester: HouseTester) -> None:
    token = await tester.person()
    await Token.all().update(expires_at=datetime.now(UTC) - timedelta(seconds=1))

    assert await refused(tester, token) == ["UNAUTHENTICATED", "TOKEN_EXPIRED"]


# ── passwords ──
async def test_a_changed_password_ends_every_other_session_and_token_and_is_told_by_mail(tester: HouseTester) -> None:
    mine = await tester.person()
    other = (await tester.do("logIn", "token", email="ann@example.com", password=PASSWORD))["token"]
    program = (await tester.do("createAccessToken", "token", mine, name="ci", scopes=["account:read"]))["token"]
    await tester.do("requestPasswordReset", "", email="ann@example.com")
    mailed = await reset_token(tester)

    payload = await tester.do("changePassword", "", mine, current=PASSWORD, new=NEW_PASSWORD)

    assert payload["errors"] == []
    assert [await refused(tester, token) for token in (mine, other, program)] == [[], ["UNAUTHENTICATED", None], ["UNAUTHENTICATED", None]]
    assert codes(await tester.do("logIn", "token", email="ann@example.com", password=PASSWORD)) == ["WRONG_CREDENTIALS"]
    assert codes(await tester.do("logIn", "token", email="ann@example.com", password=NEW_PASSWORD)) == []
    assert codes(await tester.do("resetPassword", "", resetToken=mailed, new=NEW_PASSWORD)) == ["WRONG_CREDENTIALS"]
    assert (await tester.letters())[-1].subject == "The password of your Flotilla account was changed"


@pytest.mark.parametrize(
    ("current", "new", "code", "field"),
    [("not my password at all", NEW_PASSWORD, "WRONG_CREDENTIALS", "current"), (PASSWORD, "too short", "PASSWORD_TOO_WEAK", "new")],
)
async def test_a_refused_change_of_password_changes_nothing(tester: HouseTester, current: str, new: str, code: str, field: str) -> None:
    token = await tester.person()
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("changePassword", "", token, current=current, new=new)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [(code, ["input", field])]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_mailed_reset_token_sets_a_password_once_and_ends_every_session(tester: HouseTester) -> None:
    session = await tester.person()
    await tester.do("requestPasswordReset", "", email="Ann@Example.com")
    mailed = await reset_token(tester)

    first = await tester.do("resetPassword", "", resetToken=mailed, new=NEW_PASSWORD)
    second = await tester.do("resetPassword", "", resetToken=mailed, new="eight otters juggle at noon")

    assert (codes(first), codes(second)) == ([], ["WRONG_CREDENTIALS"])
    assert await refused(tester, session) == ["UNAUTHENTICATED", None]
    assert codes(await tester.do("logIn", "token", email="ann@example.com", password=NEW_PASSWORD)) == []
    assert (await tester.audited())[1:3] == ["account.reset_requested", "account.password_changed"]


async def test_a_reset_token_used_twice_at_once_sets_one_password(postgres_tester: HouseTester) -> None:
    await postgres_tester.person()
    await postgres_tester.do("requestPasswordReset", "", email="ann@example.com")
    mailed = await reset_token(postgres_tester)

    answers = await asyncio.gather(
        *(postgres_tester.do("resetPassword", "", resetToken=mailed, new=f"{number} otters juggle at noon") for number in range(5))
    )

    assert sorted(code for answer in answers for code in codes(answer)) == ["WRONG_CREDENTIALS"] * 4
    assert (await postgres_tester.audited()).count("account.password_changed") == 1


@pytest.mark.parametrize("which", ["expired", "unknown", "mistyped", "a session's"])
async def test_a_reset_token_that_is_no_good_sets_nothing(tester: HouseTester, which: str) -> None:
    session = await tester.person()
    await tester.do("requestPasswordReset", "", email="ann@example.com")
    given = await reset_token(tester)
    match which:
        case "expired":
            await PasswordReset.all().update(expires_at=datetime.now(UTC))
        case "unknown":
            await PasswordReset.all().delete()
        case "mistyped":
            given = given[:-1] + ("A" if given[-1] != "A" else "B")
        case _:
            given = session
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("resetPassword", "", resetToken=given, new=NEW_PASSWORD)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("WRONG_CREDENTIALS", ["input", "resetToken"])]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_reset_for_an_unknown_address_is_answered_alike_and_sends_nothing(tester: HouseTester) -> None:
    await tester.person()
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("requestPasswordReset", "clientMutationId", email="eve@example.com", clientMutationId="m1")

    assert payload == {"clientMutationId": "m1", "errors": []}
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_no_token_and_no_password_is_stored_as_it_is_shown(tester: HouseTester) -> None:
    session = await tester.owner()
    scopes = ["account:read"]
    program = (await tester.do("createAccessToken", "token", session, name="ci", scopes=scopes))["token"]
    machine = (await tester.do("createApiUser", "token", session, organization="acme", name="ci", scopes=["devices:read"]))["token"]
    await tester.do("requestPasswordReset", "", email="ann@example.com")
    secrets = [session, program, machine, await reset_token(tester), PASSWORD]

    stored = str(await everything())

    assert "ann@example.com" in stored
    assert [secret for secret in secrets if secret in stored] == []


# ── guessing ──
async def test_the_eleventh_wrong_password_is_slowed_and_the_right_one_with_it(slowing_tester: HouseTester) -> None:
    await slowing_tester.person()

    wrong = [await slowing_tester.do("logIn", "token", email="ann@example.com", password=f"guess number {n}") for n in range(11)]
    right = await slowing_tester.do("logIn", "token", email="ann@example.com", password=PASSWORD)

    assert [codes(answer) for answer in wrong] == [["WRONG_CREDENTIALS"]] * 10 + [["RATE_LIMITED"]]
    assert codes(right) == ["RATE_LIMITED"]
    assert right["token"] is None


async def test_guesses_are_counted_by_aliases_of_one_request_too(slowing_tester: HouseTester) -> None:
    await slowing_tester.person()
    one = 'logIn(input: {{ email: "ann@example.com", password: "guess number {n}" }}) {{ errors {{ code }} }}'

    answers = await slowing_tester.ask("mutation { " + " ".join(f"n{n}: {one.format(n=n)}" for n in range(12)) + " }")

    assert [codes(answer)[0] for answer in answers.values()] == ["WRONG_CREDENTIALS"] * 10 + ["RATE_LIMITED"] * 2


async def test_the_right_password_costs_nothing(slowing_tester: HouseTester) -> None:
    await slowing_tester.person()

    answers = [await slowing_tester.do("logIn", "token", email="ann@example.com", password=PASSWORD) for _ in range(12)]

    assert [codes(answer) for answer in answers] == [[]] * 12


async def test_what_another_process_counted_counts_here(slowing_tester: HouseTester) -> None:
    await slowing_tester.person()
    elsewhere = Throttle(TableLedger())
    for _ in range(10):
        await elsewhere.take(throttle.guesses_at("user/ann@example.com"), now=datetime.now(UTC))

    payload = await slowing_tester.do("logIn", "token", email="ann@example.com", password=PASSWORD)

    assert codes(payload) == ["RATE_LIMITED"]


async def test_guesses_at_the_current_password_are_slowed_as_well(slowing_tester: HouseTester) -> None:
    token = await slowing_tester.person()

    tried = [await slowing_tester.do("changePassword", "", token, current=f"guess number {n}", new=NEW_PASSWORD) for n in range(11)]

    assert [codes(answer) for answer in tried] == [["WRONG_CREDENTIALS"]] * 10 + [["RATE_LIMITED"]]


async def test_reset_tokens_cannot_be_guessed_at_full_speed(slowing_tester: HouseTester) -> None:
    tried = [await slowing_tester.do("resetPassword", "", resetToken=f"flr_{n}", new=NEW_PASSWORD) for n in range(11)]

    assert [codes(answer) for answer in tried] == [["WRONG_CREDENTIALS"]] * 10 + [["RATE_LIMITED"]]


async def test_ten_sign_ups_an_hour_come_from_one_address_and_weak_passwords_are_not_counted(slowing_tester: HouseTester) -> None:
    async def sign_up(number: int, password: str) -> list[str]:
        return codes(await slowing_tester.do("signUp", "token", email=f"a{number}@example.com", password=password, name="Ann"))

    weak = [await sign_up(number, "too short") for number in range(11)]
    strong = [await sign_up(number, PASSWORD) for number in range(11)]

    assert weak == [["PASSWORD_TOO_WEAK"]] * 11
    assert strong == [[]] * 10 + [["RATE_LIMITED"]]
    assert await User.all().count() == 10


async def test_one_account_is_sent_ten_reset_mails_an_hour_and_nobody_is_told(slowing_tester: HouseTester) -> None:
    await slowing_tester.person()

    answers = [await slowing_tester.do("requestPasswordReset", "", email="ann@example.com") for _ in range(10)]
    here = throttle.resets_from("127.0.0.1")
    await slowing_tester.house.throttle.give_back(here, now=datetime.now(UTC))  # as if the next came from another address
    answers.append(await slowing_tester.do("requestPasswordReset", "", email="ann@example.com"))

    assert [codes(answer) for answer in answers] == [[]] * 11
    assert len(await slowing_tester.letters()) == 10


async def test_a_token_of_a_program_neither_changes_the_password_nor_ends_other_tokens(tester: HouseTester) -> None:
    session = await tester.person()
    program = (await tester.do("createAccessToken", "token", session, name="ci", scopes=["account:read", "members:write"]))["token"]
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("changePassword", "", program, current=PASSWORD, new=NEW_PASSWORD)

    assert [(error["code"], error["reason"]) for error in payload["errors"]] == [("FORBIDDEN", "SESSION")]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_nobody_has_no_password_to_change(tester: HouseTester) -> None:
    with pytest.raises(GraphQLFailed) as failed:
        await tester.do("changePassword", "", current=PASSWORD, new=NEW_PASSWORD)

    assert failed.value.codes == ["UNAUTHENTICATED"]
