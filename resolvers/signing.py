"""Doors of signing keys."""

from collections.abc import Mapping
from typing import Any

from fleet import scope
from fleet.firmware import trusting
from models.global_ids import number_of
from models.organization import Organization, SigningKey
from resolvers.context import Context


async def add_signing_key(context: Context, *, organization: str, name: str, public_key: str) -> Mapping[str, Any]:
    team = await scope.organization(context.viewer, organization)
    return {"signing_key": await trusting.add_signing_key(team, name, public_key, by=context.viewer)}


async def remove_signing_key(context: Context, *, id: str) -> None:
    await trusting.remove_signing_key(await scope.signing_key(context.viewer, number_of("SigningKey", id)), by=context.viewer)


async def signing_keys(organization: Organization, context: Context) -> list[SigningKey]:
    context.viewer.must("organization.read", organization.id)
    return await SigningKey.filter(organization_id=organization.id).order_by("id")


async def by_id(context: Context, id: str) -> SigningKey:
    found = await scope.signing_key(context.viewer, number_of("SigningKey", id))
    context.viewer.must("organization.read", found.organization.id)
    return found
