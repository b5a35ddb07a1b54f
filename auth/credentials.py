"""Tokens in the database: who stands behind one, and how they are issued and ended."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

from auth.tokens import Kind, Minted, digest, mint, well_formed
from auth.viewer import RANK, Viewer, ViewerKind
from auth.walls import granted
from errors import Unauthenticated, WrongAuthMethod
from models.account import ApiUser, Token, User
from models.customer import Customer
from models.oauth import OAuthConsent
from models.organization import WITHOUT_ACCESS, Member, Role
from models.product import AUTH_METHOD, Answer, AuthMethod
from models.sql import is_sqlite, tuples
from models.whole_rows import Join, at_hand, join

USE_NOTED_EVERY = timedelta(minutes=1)  # how exact last_used_at is: a write for every request would cost more than it tells

WRONG_TOKEN = "This token is not good any more, or never was: log in again."


async def viewer_of(authorization: str | None, *, address: str | None, now: datetime) -> Viewer:
    """Who is behind the value of an Authorization header; nobody when there is none.

    Raises Unauthenticated for a token that is damaged, unknown, revoked or expired (reason TOKEN_EXPIRED), and WrongAuthMethod for
    a customer's whose product signs customers in another way by now.
    """
    if authorization is None:
        return Viewer(address=address)
    word, _, text = authorization.partition(" ")
    if word.lower() != "bearer" or not well_formed(text.strip()):
        raise Unauthenticated("The Authorization header reads: Bearer, a blank, the whole token.")
    viewer = await _viewer("token.digest = $1 AND token.revoked_at IS NULL", [digest(text.strip())], address)
    token = _living(viewer.token, now)
    await _require_method(token)
    await _note_use(token, now)
    return await _with_grants(viewer)


async def standing_behind(token: Token, address: str | None) -> Viewer:
    """The viewer that a token just issued makes of whoever sent it, with their seats as they are now."""
    return await _with_grants(await _viewer("token.id = $1", [token.id], address))


async def viewer_again(viewer: Viewer, *, now: datetime) -> Viewer:
    """The same viewer as of now, for what lasts longer than a request: seats, scopes and token are read anew.

    Raises Unauthenticated once the token is revoked, expired or gone, and WrongAuthMethod as viewer_of does.
    """
    if viewer.token is None:
        return viewer
    again = await _viewer("token.id = $1 AND token.revoked_at IS NULL", [viewer.token.id], viewer.address)
    await _require_method(_living(again.token, now))
    return await _with_grants(again)


async def auth_method_of(product_id: int) -> AuthMethod | None:
    """How customers of the product log in, by its row's id; None while the team has not said so."""
    answer = await Answer.filter(product_id=product_id, key=AUTH_METHOD).only("answer").first()
    return AuthMethod(answer.answer) if answer else None


async def _viewer(which: str, params: Sequence[object], address: str | None) -> Viewer:
    """Whoever is behind a token, their seats and roles, and which of their organizations wait outside because nobody pays; or nobody.

    One statement, for it stands before every request. What was granted to them is not in it.
    """
    behind, who = _behind(is_sqlite())
    found = await tuples(behind + which, params)
    if not found:
        return Viewer(address=address)
    rows = [who.rows(record) for record in found]
    token, user, machine, customer, _ = rows[0]
    at_hand(token, user=user, api_user=machine, customer=customer)
    members = {seat.organization_id: seat for *_, seat in rows if seat is not None}
    closed = frozenset(record[-4] for record in found if record[-3] in WITHOUT_ACCESS)
    roles = {record[-2]: Role(record[-1]) for record in found if record[-1] is not None}
    kind = ViewerKind.API_USER if machine else ViewerKind.CUSTOMER if customer else ViewerKind.USER
    return Viewer(kind, user, machine, customer, token, members, roles, address, closed)


async def _with_grants(viewer: Viewer) -> Viewer:
    """The same with what was granted to them; nobody walls an admin in, of the organization or of the product."""
    if viewer.api_user is not None:
        return replace(viewer, granted=await granted("api_user", [viewer.api_user.id]))
    if viewer.customer is not None:
        return replace(viewer, granted=await granted("customer", [viewer.customer.id]))
    held = [seat.id for seat in viewer.members.values() if RANK[Role(seat.role)] < RANK[Role.ADMIN]]
    if not held:
        return viewer
    walls = await granted("member", held)
    ranks = {product: RANK[role] for product, role in viewer.product_roles.items()}
    return replace(viewer, granted={each: walls[each] for each in walls if ranks.get(each, 0) < RANK[Role.ADMIN]})


@cache
def _behind(_is_sqlite: bool) -> tuple[str, Join]:
    """The statement, and what becomes of its records."""
    who = join(token=Token, person=User, machine=ApiUser, customer=Customer, seat=Member)
    return (
        f"""
        SELECT {who.selected}, organization.id, organization.billing_state, product_role.product_id, product_role.role
          FROM token
          LEFT JOIN user_account AS person ON person.id = token.user_id
          LEFT JOIN api_user AS machine ON machine.id = token.api_user_id
          LEFT JOIN customer ON customer.id = token.customer_id
          LEFT JOIN member AS seat ON seat.user_id = token.user_id
          LEFT JOIN organization ON organization.id = COALESCE(seat.organization_id, machine.organization_id)
          LEFT JOIN product_role ON product_role.member_id = seat.id
         WHERE """,
        who,
    )


async def issue(
    kind: Kind,
    *,
    owner: User | ApiUser | Customer,
    now: datetime,
    name: str = "",
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
    auth_method: AuthMethod | None = None,
    consent: OAuthConsent | None = None,
) -> tuple[Minted, Token]:
    """A new token for its owner; its text is in the first of the pair and nowhere else.

    A customer's is good while `auth_method`, by which they came by it, is the one of their product; an app's while its family lives.
    """
    minted = mint(kind)
    token = await Token.create(
        digest=minted.hash,
        prefix=minted.shown_prefix,
        name=name,
        scopes=list(scopes),
        user=owner if isinstance(owner, User) else None,
        api_user=owner if isinstance(owner, ApiUser) else None,
        customer=owner if isinstance(owner, Customer) else None,
        auth_method=auth_method,
        consent=consent,
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


async def _require_method(token: Token) -> None:
    """A token made by one method must not outlive the team's choice of another."""
    if token.customer is None:
        return
    method = await auth_method_of(token.customer.product_id)
    if token.auth_method != method:
        raise WrongAuthMethod(f"The product signs its customers in by {method} now: log in that way.", reason=method)


async def _note_use(token: Token, now: datetime) -> None:
    if token.last_used_at is None or now - token.last_used_at > USE_NOTED_EVERY:
        await Token.filter(id=token.id).update(last_used_at=now)
