"""What OAuth keeps and asks about: a registered app, a code, a token, in the words of Authlib; and the Store of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin

from auth.tokens import matches
from auth.viewer import Viewer
from models.customer import Customer
from models.oauth import OAuthClient, OAuthCode, OAuthRefreshToken

CODE, REFRESH, OWN = "authorization_code", "refresh_token", "client_credentials"


@dataclass(frozen=True, slots=True)
class Issued:
    """Texts of new tokens, stored nowhere."""

    access_token: str
    expires_in: int
    refresh_token: str | None = None


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a customer has let an app do, and the code on its way to it."""

    client: OAuthClient
    scopes: Sequence[str]
    redirect_uri: str
    code_digest: str
    challenge: str


class Client(ClientMixin):  # type: ignore[misc]  # Authlib has no types
    """A registered app as the library asks about it. `is_open`: its product's customers log in by OAUTH."""

    def __init__(self, row: OAuthClient, *, is_open: bool) -> None:
        self.row = row
        self._is_open = is_open

    def get_client_id(self) -> str:
        return self.row.client_id

    def get_default_redirect_uri(self) -> None:
        """None: an app always says where it wants its answer."""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        return _allowed(scope, self.row.scopes)

    def own_scope(self, scope: str | None) -> str | None:
        return _allowed(scope, self.row.api_user.scopes if self.row.api_user else [])

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.row.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return self.row.secret_digest is not None and matches(client_secret, self.row.secret_digest)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return (method == "none") is (self.row.secret_digest is None)

    def check_response_type(self, response_type: str) -> bool:
        return self._is_open and response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return self._is_open and (grant_type in (CODE, REFRESH) or (grant_type == OWN and self.row.api_user is not None))


@dataclass(frozen=True, slots=True)
class Found(TokenMixin):  # type: ignore[misc]  # Authlib has no types
    """An access or refresh token that was shown at an endpoint. `consent_id` None: the app's own, without a customer."""

    client_id: str
    is_refresh: bool
    key: int | str  # of its row
    consent_id: int | None
    customer: Customer | None
    scopes: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    is_over: bool

    def check_client(self, client: Client) -> bool:
        return bool(client.row.client_id == self.client_id)

    def get_scope(self) -> str:
        return " ".join(self.scopes)

    def is_expired(self) -> bool:
        return self.expires_at <= datetime.now(UTC)

    def is_revoked(self) -> bool:
        return self.is_over


class Code:
    """A code as the library asks about it, consent and customer at hand."""

    def __init__(self, row: OAuthCode) -> None:
        self.row = row

    def get_redirect_uri(self) -> str:
        return self.row.redirect_uri

    def get_scope(self) -> str:
        return " ".join(self.row.consent.scopes)


class Refreshing:
    """A refresh token as the library asks about it; the store has seen to it that it is the app's."""

    def __init__(self, row: OAuthRefreshToken) -> None:
        self.row = row

    def check_client(self, client: Client) -> bool:
        return bool(self.row.consent.client_id == client.row.id)

    def get_scope(self) -> str:
        return " ".join(self.row.consent.scopes)


class Store(Protocol):
    """What is kept, and changed in one transaction a call."""

    async def client(self, client_id: str) -> Client | None: ...

    async def consent(self, allowed: "Allowed", by: Viewer) -> None:
        """The customer `by` lets the app have what it asked for: keep it, with the code that stands for it."""

    async def code(self, text: str, client: OAuthClient) -> OAuthCode | None:
        """A code of this app that can still be redeemed, consent and customer at hand; one that was redeemed ends its family."""

    async def redeem(self, code: OAuthCode) -> Issued | None:
        """Spend it, of many at the same time once, and issue for it; None for every other, which ends the family."""

    async def refresh_token(self, text: str, client: OAuthClient) -> OAuthRefreshToken | None:
        """As `code`."""

    async def rotate(self, refresh_token: OAuthRefreshToken, scopes: Sequence[str]) -> Issued | None:
        """As `redeem`; the new access token has these of its scopes."""

    async def issue_own(self, client: OAuthClient, scopes: Sequence[str]) -> Issued: ...

    async def find(self, text: str) -> Found | None: ...

    async def revoke(self, found: Found) -> None:
        """End an access token alone, or with a refresh token the whole family."""


def _allowed(scope: str | None, registered: Sequence[str]) -> str | None:
    """The scopes asked for, each once and in the registered order; all of them if none is named, None if one is not allowed."""
    asked = (scope or "").split() or list(registered)
    return " ".join(name for name in registered if name in asked) if set(asked) <= set(registered) else None
