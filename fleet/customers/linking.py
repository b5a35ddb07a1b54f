"""Apps that customers of a product may log in to with their account here: registering them, new secrets, and their end."""

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from auth.scopes import Holder, parse_scopes, scopes_of
from auth.spelling import require_text
from auth.tokens import Kind, Minted, mint
from auth.viewer import Viewer
from billing.access import require_active
from errors import InvalidInput, NotFound
from fleet.auditing import differing, record
from fleet.customers.accounts import must_sign_in_by
from models.account import ApiUser
from models.oauth import OAuthClient
from models.organization import Organization
from models.product import AuthMethod, Product
from models.transaction import transaction

REDIRECT_URI_MAX = 2000
REDIRECT_URIS_MAX = 10
LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]+\Z")
_HOST = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?\Z")


async def create_oauth_client(
    product: Product,
    name: str,
    redirect_uris: Sequence[str],
    *,
    public: bool = False,
    scopes: Sequence[str] | None = None,
    own_scopes: Sequence[str] = (),
    by: Viewer,
) -> tuple[OAuthClient, str | None]:
    """Register an app; its secret comes second and is shown once. A public one, which runs at its user's, has none.

    It may ask customers for `scopes` (absent: all that customers have). With `own_scopes` it may also act without a customer,
    on every device of the product, as a machine account of it does; nothing unless they are named.
    Raises WrongAuthMethod unless the product's customers log in by OAUTH, InvalidInput for a redirect URI that is unsafe.
    Source: guide, "Authentication"; RFC 9700, 2.1 and 4.1.
    """
    organization: Organization = product.organization
    by.must("oauth_client.write", organization.id, product.id)
    require_active(organization)
    label, granted = require_text(name, path=("name",)), parse_scopes(scopes or scopes_of(Holder.CUSTOMER), holder=Holder.CUSTOMER)
    uris, own = require_redirect_uris(redirect_uris, public=public, named_apart=1), _own_scopes(own_scopes, public=public)
    await must_sign_in_by(product, AuthMethod.OAUTH)
    now, minted = datetime.now(UTC), None if public else mint(Kind.CLIENT_SECRET)
    async with transaction():
        machine = None
        if own:
            machine = await ApiUser.create(organization=organization, product=product, name=label, scopes=list(own), created_at=now)
        client = await OAuthClient.create(
            client_id=secrets.token_hex(16),
            product=product,
            name=label,
            redirect_uris=uris,
            secret_digest=minted.hash if minted else None,
            scopes=list(granted),
            api_user=machine,
            created_at=now,
        )
        await record(
            by, "oauth_client.created", subject(client.client_id), organization_id=organization.id,
            name=label, redirect_uris=uris, public=public, scopes=granted, own_scopes=own,
        )  # fmt: skip
    return client, minted.text if minted else None


async def update_oauth_client(
    client: OAuthClient, *, name: str | None = None, redirect_uris: Sequence[str] | None = None, by: Viewer
) -> OAuthClient:
    """Another name, or other addresses in place of all there are; what customers consented to stays. Raises as create_oauth_client does.

    A code that is on its way to an address that was taken out can still be redeemed there, for its seconds.
    """
    organization = _must_write(client, by)
    wanted: dict[str, Any] = {} if name is None else {"name": require_text(name, path=("name",))}
    if redirect_uris is not None:
        wanted["redirect_uris"] = require_redirect_uris(redirect_uris, public=client.secret_digest is None)
    async with transaction():
        held = await OAuthClient.filter(id=client.id).select_for_update().first()
        if held is None:
            raise NotFound("This client is gone already.", path=("clientId",))
        before, after = differing(held, wanted)
        if before:
            await OAuthClient.filter(id=client.id).update(**after)
            await record(by, "oauth_client.updated", subject(client.client_id), organization_id=organization.id, before=before, after=after)
    client.update_from_dict(after)
    return client


async def rotate_oauth_client_secret(client: OAuthClient, *, by: Viewer) -> str:
    """A new secret; the old one ends at once, what customers consented to stays. Raises InvalidInput for a public client."""
    organization = _must_write(client, by)
    if client.secret_digest is None:
        raise InvalidInput("A public client has no secret: it proves itself by PKCE alone.", path=("clientId",))
    minted: Minted = mint(Kind.CLIENT_SECRET)
    async with transaction():
        if not await OAuthClient.filter(id=client.id).update(secret_digest=minted.hash):
            raise NotFound("This client is gone already.", path=("clientId",))
        await record(by, "oauth_client.secret_rotated", subject(client.client_id), organization_id=organization.id)
    return minted.text


async def delete_oauth_client(client: OAuthClient, *, by: Viewer) -> None:
    """End an app: every code and token that customers gave it, and its own, die with it."""
    organization = _must_write(client, by)
    async with transaction():
        if not await OAuthClient.filter(id=client.id).delete():
            raise NotFound("This client is gone already.", path=("clientId",))
        await ApiUser.filter(id=client.api_user_id).delete()  # type: ignore[attr-defined]  # a Tortoise column
        await record(by, "oauth_client.deleted", subject(client.client_id), organization_id=organization.id, name=client.name)


def subject(client_id: str) -> str:
    """How the audit names an app."""
    return f"oauth-client:{client_id}"


def require_redirect_uris(uris: Sequence[str], *, public: bool, named_apart: int = 0) -> list[str]:
    """1 to 10 addresses, each once; the first may have come in a field of its own. Raises InvalidInput."""
    if not 1 <= len(uris) <= REDIRECT_URIS_MAX or len(set(uris)) < len(uris):
        raise InvalidInput(f"Give 1 to {REDIRECT_URIS_MAX} addresses, each once.", path=("redirectUris",))
    places = [("redirectUri",)] * named_apart + [("redirectUris", str(place)) for place in range(len(uris) - named_apart)]
    return [require_redirect_uri(uri, public=public, path=path) for uri, path in zip(uris, places, strict=True)]


def require_redirect_uri(uri: str, *, public: bool, path: tuple[str, ...] = ("redirectUri",)) -> str:
    """Where codes may go: https, http to this machine, or a public client's own scheme such as `com.example.app:/back`.

    Raises InvalidInput for everything else: without TLS a code is read on its way, and schemes like `javascript:` run it.
    Source: RFC 9700, 2.1; RFC 8252, 7 and 8.4.
    """
    if not _is_safe(uri, public=public):
        raise InvalidInput(
            "A redirectUri is an absolute address of plain characters, without user, password or #: https://, http:// of the customer's"
            " own machine, or for a public client its reversed domain as scheme.",
            path=path,
        )
    return uri


def _is_safe(uri: str, *, public: bool) -> bool:
    if len(uri) > REDIRECT_URI_MAX or not _URI.match(uri):
        return False
    try:
        parts = urlsplit(uri)
    except ValueError:  # a bracket without its other half
        return False
    if parts.scheme in ("https", "http"):
        host = _HOST.match(parts.netloc)
        return host is not None and (parts.scheme == "https" or host[1] in LOOPBACK)
    return public and "." in parts.scheme and not parts.netloc  # a name that its maker owns: no other app has it by accident


def _own_scopes(names: Sequence[str], *, public: bool) -> tuple[str, ...]:
    """Only what a customer could allow too, and only to an app that can prove who it is. Raises InvalidInput."""
    if not names:
        return ()
    if public:
        raise InvalidInput("A public client cannot prove who it is, so it has nothing of its own.", path=("ownScopes",))
    shared = scopes_of(Holder.CUSTOMER)
    granted = parse_scopes(names, holder=Holder.API_USER, path=("ownScopes",))
    for index, name in enumerate(names):
        if name not in shared:
            raise InvalidInput("An app has at most what a customer could allow it.", path=("ownScopes", str(index)))
    return granted


def _must_write(client: OAuthClient, by: Viewer) -> Organization:
    product: Product = client.product
    organization: Organization = product.organization
    by.must("oauth_client.write", organization.id, product.id)
    require_active(organization)
    return organization
