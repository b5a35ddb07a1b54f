"""Doors of accounts: signing up and in, passwords, tokens, and who the viewer is."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from auth.viewer import Viewer
from fleet import scope
from fleet.customers import signing_in as customer_signing_in
from fleet.team import issuing, signing_in
from models.account import ApiUser, Token, User
from models.global_ids import number_of
from models.organization import Invitation, Organization
from resolvers.context import Context

Answer = Mapping[str, Any]


async def sign_up(context: Context, *, email: str, password: str, name: str) -> Answer:
    session, token = await signing_in.sign_up(email, password, name, house=context.house, by=context.viewer)
    await context.become(session)
    return {"user": session.user, "token": token}


async def log_in(context: Context, *, email: str, password: str) -> Answer:
    session, token = await signing_in.log_in(email, password, house=context.house, by=context.viewer)
    await context.become(session)
    return {"user": session.user, "token": token, "expires_at": session.expires_at}


async def log_out(context: Context) -> None:
    by = context.viewer
    await (customer_signing_in.log_out(by.customer, by=by) if by.customer else signing_in.log_out(by=by))


async def change_password(context: Context, *, current: str, new: str) -> None:
    await signing_in.change_password(current, new, house=context.house, by=context.viewer)


async def request_password_reset(context: Context, *, email: str) -> None:
    await signing_in.request_password_reset(email, house=context.house, by=context.viewer)


async def reset_password(context: Context, *, reset_token: str, new: str) -> None:
    await signing_in.reset_password(reset_token, new, house=context.house, by=context.viewer)


async def create_access_token(context: Context, *, name: str, scopes: list[str], expires_at: datetime | None = None) -> Answer:
    settings = context.house.settings
    token, text = await issuing.create_access_token(name, scopes=scopes, expires_at=expires_at, settings=settings, by=context.viewer)
    return {"access_token": token, "token": text}


async def revoke_access_token(context: Context, *, id: str) -> None:
    await issuing.revoke_access_token(number_of("AccessToken", id), by=context.viewer)


async def create_api_user(context: Context, *, organization: str, name: str, scopes: list[str], product_id: int | None = None) -> Answer:
    team = await scope.organization(context.viewer, organization)
    product = await scope.product(context.viewer, product_id) if product_id is not None else None
    machine, token = await issuing.create_api_user(team, name, scopes=scopes, product=product, by=context.viewer)
    return {"api_user": machine, "token": token}


async def update_api_user(context: Context, *, id: str, scopes: list[str]) -> Answer:
    machine = await scope.api_user(context.viewer, number_of("ApiUser", id))
    machine, token = await issuing.update_api_user(machine, scopes=scopes, by=context.viewer)
    return {"api_user": machine, "token": token}


async def delete_api_user(context: Context, *, id: str) -> None:
    machine = await scope.api_user(context.viewer, number_of("ApiUser", id))
    await issuing.delete_api_user(machine, by=context.viewer)


# ── reading ──
def viewer(context: Context) -> Viewer:
    return context.viewer


def scopes(viewer: Viewer, context: Context) -> list[str]:
    return list(viewer.token_scopes or ())


async def invitations(viewer: Viewer, context: Context) -> list[Invitation]:
    return await scope.own_invitations(viewer)


async def organization_of(user: User, context: Context) -> Organization | None:
    return await scope.organization_of(context.viewer, user)


async def access_tokens(user: User, context: Context) -> list[Token]:
    return await scope.own_tokens(context.viewer) if context.viewer.user and context.viewer.user.id == user.id else []


async def product_of(machine: ApiUser, context: Context) -> Any:
    return await context.loaders.products.load(machine.product_id)  # type: ignore[attr-defined]  # a Tortoise column
