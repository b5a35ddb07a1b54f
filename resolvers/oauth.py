"""Doors of OAuth clients."""

from collections.abc import Mapping
from typing import Any

from fleet import scope
from fleet.customers import linking
from models.account import ApiUser
from models.oauth import OAuthClient
from models.product import Product
from resolvers.context import Context

Answer = Mapping[str, Any]


async def create_oauth_client(
    context: Context, *, product_id: int, name: str, redirect_uri: str, redirect_uris: list[str] | None = None, **options: Any
) -> Answer:
    product = await scope.product(context.viewer, product_id)
    given, uris = {option: value for option, value in options.items() if value is not None}, [redirect_uri, *(redirect_uris or ())]
    client, secret = await linking.create_oauth_client(product, name, uris, **given, by=context.viewer)
    return {"client_id": client.client_id, "client_secret": secret}


async def update_oauth_client(context: Context, *, client_id: str, **changes: Any) -> Answer:
    client = await scope.oauth_client(context.viewer, client_id)
    return {"client": await linking.update_oauth_client(client, **changes, by=context.viewer)}


async def rotate_oauth_client_secret(context: Context, *, client_id: str) -> Answer:
    client = await scope.oauth_client(context.viewer, client_id)
    return {"client_secret": await linking.rotate_oauth_client_secret(client, by=context.viewer)}


async def delete_oauth_client(context: Context, *, client_id: str) -> None:
    await linking.delete_oauth_client(await scope.oauth_client(context.viewer, client_id), by=context.viewer)


# ── reading ──
async def oauth_clients(product: Product, context: Context) -> list[OAuthClient]:
    context.viewer.must("oauth_client.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
    return await OAuthClient.filter(product_id=product.id).select_related("api_user").order_by("id")


def redirect_uri(client: OAuthClient, context: Context) -> str:
    first: str = client.redirect_uris[0]
    return first


def is_public(client: OAuthClient, context: Context) -> bool:
    return client.secret_digest is None


def own_scopes(client: OAuthClient, context: Context) -> list[str]:
    machine: ApiUser | None = client.api_user
    return list(machine.scopes) if machine else []
