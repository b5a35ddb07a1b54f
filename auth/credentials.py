"""Tokens in the database: who stands behind one, and how they are issued and ended."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from auth.tokens import Kind, Minted, digest, mint, well_formed
from auth.viewer import Viewer, ViewerKind
from errors import Unauthenticated, WrongAuthMethod
from models.account import ApiUser, Token, User
from models.customer import Customer
from models.organization import WITHOUT_ACCESS, Member, Organization
from models.product import AUTH_METHOD, Answer, AuthMethod

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
    token = await _good_token(text.strip(), now)
    await _require_method(token)
    await _note_use(token, now)
    return await standing_behind(token, address)


async def standing_behind(token: Token, address: str | None) -> Viewer:
    """The viewer that a living token makes of whoever sent it, with their seats as they are now; its owner must be at hand."""
    if token.api_user is not None:
        closed = await _closed([token.api_user.organization_id])
        return Viewer(ViewerKind.API_USER, api_user=token.api_user, token=token, address=address, closed=closed)
    if token.customer is not None:
        return Viewer(ViewerKind.CUSTOMER, customer=token.customer, token=token, address=address)
    person: User = token.user  # type: ignore[assignment]  # exactly one of the three is set
    seats = await Member.filter(user_id=person.id)
    members = {member.organization_id: member for member in seats}  # type: ignore[attr-defined]  # a Tortoise column
    closed = await _closed(list(members))
    return Viewer(ViewerKind.USER, user=person, token=token, members=members, address=address, closed=closed)


async def _closed(organization_ids: Sequence[int]) -> frozenset[int]:
    """Those whose teams wait outside, because nobody pays."""
    if not organization_ids:
        return frozenset()
    found = Organization.filter(id__in=organization_ids, billing_state__in=WITHOUT_ACCESS)
    return frozenset([row.id for row in await found.only("id")])


async def viewer_again(viewer: Viewer, *, now: datetime) -> Viewer:
    """The same viewer as of now, for what lasts longer than a request: seats, scopes and token are read anew.

    Raises Unauthenticated once the token is revoked, expired or gone, and WrongAuthMethod as viewer_of does.
    """
    if viewer.token is None:
        return viewer
    token = await Token.filter(id=viewer.token.id, revoked_at=None).select_related("user", "api_user", "customer").first()
    living = _living(token, now)
    await _require_method(living)
    return await standing_behind(living, viewer.address)


async def auth_method_of(product_id: int) -> AuthMethod | None:
    """How customers of the product log in, by its row's id; None while the team has not said so."""
    answer = await Answer.filter(product_id=product_id, key=AUTH_METHOD).only("answer").first()
    return AuthMethod(answer.answer) if answer else None


async def issue(
    kind: Kind,
    *,
    owner: User | ApiUser | Customer,
    now: datetime,
    name: str = "",
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
    auth_method: AuthMethod | None = None,
) -> tuple[Minted, Token]:
    """A new token for its owner; its text is in the first of the pair and nowhere else.

    A customer's is good while `auth_method`, by which they came by it, is the one of their product.
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


async def _good_token(text: str, now: datetime) -> Token:
    token = await Token.filter(digest=digest(text), revoked_at=None).select_related("user", "api_user", "customer").first()
    return _living(token, now)


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
