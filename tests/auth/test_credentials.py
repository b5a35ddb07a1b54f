"""Tokens in the database: who stands behind a header, and what a token that is no good is answered."""

from datetime import UTC, datetime, timedelta

import pytest

from auth.credentials import USE_NOTED_EVERY, issue, revoke, viewer_of
from auth.tokens import Kind
from auth.viewer import ViewerKind
from errors import Unauthenticated
from models.account import Token, User
from models.sql import rows
from tests.house import HouseTester

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
UNKNOWN = "flu_00000000000000000000000000000000"


async def a_person() -> User:
    return await User.create(email="ann@example.com", email_key="ann@example.com", name="Ann", password_hash="none", created_at=NOW)


async def a_token(*, expires_at: datetime | None = None) -> str:
    minted, _ = await issue(Kind.SESSION, owner=await a_person(), now=NOW, expires_at=expires_at)
    return minted.text


async def refusal(authorization: str, now: datetime = NOW) -> tuple[str, str | None]:
    with pytest.raises(Unauthenticated) as refused:
        await viewer_of(authorization, address=None, now=now)
    return refused.value.code, refused.value.reason


async def test_no_header_is_nobody(tester: HouseTester) -> None:
    viewer = await viewer_of(None, address="10.0.0.1", now=NOW)

    assert (viewer.kind, viewer.user, viewer.address) == (ViewerKind.ANONYMOUS, None, "10.0.0.1")


@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER"])
async def test_a_token_is_its_owner(tester: HouseTester, word: str) -> None:
    viewer = await viewer_of(f"{word}  {await a_token()} ", address=None, now=NOW)

    assert viewer.user is not None
    assert (viewer.kind, viewer.actor, viewer.token_scopes) == (ViewerKind.USER, "user:ann@example.com", None)


@pytest.mark.parametrize("change", ["{}x", "x{}", "{} {}", ""])
async def test_a_damaged_token_is_refused_without_a_query(change: str) -> None:
    """There is no database in this test."""
    text = change.format(UNKNOWN, UNKNOWN)

    assert await refusal(f"Bearer {text}") == ("UNAUTHENTICATED", None)
    assert await refusal(f"Basic {text}") == ("UNAUTHENTICATED", None)


async def test_a_token_ends_at_its_moment_and_says_so(tester: HouseTester) -> None:
    text = await a_token(expires_at=NOW + timedelta(seconds=1))

    assert (await viewer_of(f"Bearer {text}", address=None, now=NOW)).user is not None
    assert await refusal(f"Bearer {text}", now=NOW + timedelta(seconds=1)) == ("UNAUTHENTICATED", "TOKEN_EXPIRED")


async def test_a_revoked_token_is_answered_like_one_that_never_was(tester: HouseTester) -> None:
    text = await a_token()
    assert await revoke(now=NOW) == 1
    await Token.all().update(expires_at=NOW)

    revoked = await refusal(f"Bearer {text}")
    await Token.all().delete()

    assert revoked == await refusal(f"Bearer {text}") == ("UNAUTHENTICATED", None)


async def test_use_is_noted_to_the_minute_and_not_at_every_request(tester: HouseTester) -> None:
    text = await a_token()

    async def last_used_after(elapsed: timedelta) -> datetime | None:
        await viewer_of(f"Bearer {text}", address=None, now=NOW + elapsed)
        return (await Token.get()).last_used_at

    assert await last_used_after(timedelta(0)) == NOW
    assert await last_used_after(USE_NOTED_EVERY) == NOW
    assert await last_used_after(USE_NOTED_EVERY + timedelta(seconds=1)) == NOW + USE_NOTED_EVERY + timedelta(seconds=1)


async def test_revoking_ends_what_matches_once_and_spares_the_one_named(tester: HouseTester) -> None:
    ann = await a_person()
    tokens = [(await issue(Kind.SESSION, owner=ann, now=NOW))[1] for _ in range(3)]

    assert await revoke(now=NOW, user_id=ann.id + 1) == 0
    assert await revoke(now=NOW, except_token_id=tokens[0].id, user_id=ann.id) == 2
    assert await revoke(now=NOW, except_token_id=tokens[0].id, user_id=ann.id) == 0
    assert [token.id for token in await Token.filter(revoked_at=None)] == [tokens[0].id]


async def test_only_a_hash_and_the_first_characters_are_stored(tester: HouseTester) -> None:
    text = await a_token()

    (row,) = await rows("SELECT * FROM token")

    assert text not in str(row)
    assert text[8:20] not in str(row)
    assert (row["prefix"], len(str(row["digest"]))) == (text[:8], 64)
