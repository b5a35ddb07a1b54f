"""Tokens in the database: who stands behind one, and how they are issued and ended."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

from auth.tokens import Kind, Minted, digest, mint, well_formed
from auth.viewer import Viewer, ViewerKind
from errors import Unauthenticated
from models.account import ApiUser, Token, User
from models.customer import Customer
from models.organization import WITHOUT_ACCESS, Member
from models.sql import is_sqlite, records
from models.whole_rows import at_hand, columns, rows_of_join

USE_NOTED_EVERY = timedelta(minutes=1)  # how exact last_used_at is: a write for every request would cost more than it tells

WRONG_TOKEN = "This token is not good any more, or never was: log in again."


async def viewer_of(authorization: str | None, *, address: str | None, now: datetime) -> Viewer:
    """Who is behind the value of an Authorization header; nobody when there is none.

    Raises Unauthenticated for a token that is damaged, unknown, revoked or expired (reason TOKEN_EXPIRED).
    """
    if authorization is None:
        return Viewer(address=address)
    word, _, text = authorization.partition(" ")
    if word.lower() != "bearer" or not well_formed(text.strip()):
        raise Unauthenticated("The Authorization header reads: Bearer, a blank, the whole token.")
    viewer = await _viewer("token.digest = $1 AND token.revoked_at IS NULL", [digest(text.strip())], address)
    await _note_use(_living(viewer.token, now), now)
    return viewer


async def standing_behind(token: Token, address: str | None) -> Viewer:
    """The viewer that a token just issued makes of whoever sent it, with their seats as they are now."""
    return await _viewer("token.id = $1", [token.id], address)


async def viewer_again(viewer: Viewer, *, now: datetime) -> Viewer:
    """The same viewer as of now, for what lasts longer than a request: seats, scopes and token are read anew.

    Raises Unauthenticated once the token is revoked, expired or gone.
    """
    if viewer.token is None:
        return viewer
    again = await _viewer("token.id = $1 AND token.revoked_at IS NULL", [viewer.token.id], viewer.address)
    _living(again.token, now)
    return again


async def _viewer(which: str, params: Sequence[object], address: str | None) -> Viewer:
    """Whoever is behind a token, their seats, and which of their organizations wait outside because nobody pays; nobody without a token.

    One statement, for it stands before every request.
    """
    found = await records(_behind(is_sqlite()) + which, params)
    if not found:
        return Viewer(address=address)
    rows = [rows_of_join(record, Token, User, ApiUser, Customer, Member) for record in found]
    token, user, machine, customer, _ = rows[0]
    at_hand(token, user=user, api_user=machine, customer=customer)
    members = {seat.organization_id: seat for *_, seat in rows if seat is not None}
    closed = frozenset(record[-2] for record in found if record[-1] in WITHOUT_ACCESS)
    kind = ViewerKind.API_USER if machine else ViewerKind.CUSTOMER if customer else ViewerKind.USER
    return Viewer(kind, user, machine, customer, token, members, address, closed)


@cache
def _behind(_is_sqlite: bool) -> str:
    return f"""
        SELECT {columns(Token, "token")}, {columns(User, "person")}, {columns(ApiUser, "machine")}, {columns(Customer, "customer")},
               {columns(Member, "seat")}, organization.id, organization.billing_state
          FROM token
          LEFT JOIN user_account AS person ON person.id = token.user_id
          LEFT JOIN api_user AS machine ON machine.id = token.api_user_id
          LEFT JOIN customer ON customer.id = token.customer_id
          LEFT JOIN member AS seat ON seat.user_id = token.user_id
          LEFT JOIN organization ON organization.id = COALESCE(seat.organization_id, machine.organization_id)
         WHERE """


async def issue(
    kind: Kind,
    *,
    owner: User | ApiUser | Customer,
    now: datetime,
    name: str = "",
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
) -> tuple[Minted, Token]:
    """A new token for its owner; its text is in the first of the pair and nowhere else."""
    minted = mint(kind)
    token = await Token.create(
        digest=minted.hash,
        prefix=minted.shown_prefix,
        name=name,
        scopes=list(scopes),
        user=owner if isinstance(owner, User) else None,
        api_user=owner if isinstance(owner, ApiUser) else None,
        customer=owner if isinstance(owner, Customer) else None,
        created_at=now,
        expires_at=expires_at,
    )
    return minted, token


async def revoke(*, now: datetime, except_token_id: int | None = None, **whose: object) -> int:
    """End every living token that matches, e.g. user_id=3 or id=7; how many there were."""
    living = Token.filter(revoked_at=None, **whose)
    if except_token_id is not None:
        living = living.exclude(id=except_token_id)
    return int(await living.update(revoked_at=now))


def _living(token: Token | None, now: datetime) -> Token:
    if token is None:
        raise Unauthenticated(WRONG_TOKEN)
    if token.expires_at is not None and token.expires_at <= now:
        raise Unauthenticated("This token has expired: log in again or make a new one.", reason="TOKEN_EXPIRED")
    return token


async def _note_use(token: Token, now: datetime) -> None:
    if token.last_used_at is None or now - token.last_used_at > USE_NOTED_EVERY:
        await Token.filter(id=token.id).update(last_used_at=now)
