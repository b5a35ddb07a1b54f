"""OAuth 2.0 as the RFCs have it: Authlib's grants and endpoints, on what a Store keeps.

They are sync, so each request runs in a thread, and what it asks of the store comes back to the loop. No transaction spans two
of those calls: each is whole by itself, and the one that spends a code or a refresh token is the one that issues for it.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio import CapacityLimiter, from_thread, to_thread
from authlib.common.urls import add_params_to_uri
from authlib.oauth2 import OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    grants,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from auth.oauth_store import OWN, Allowed, Client, Code, Found, Issued, Refreshing, Store
from auth.tokens import Kind, digest, mint
from auth.viewer import Viewer
from models.global_ids import global_id
from models.oauth import OAuthClient

THREADS = 16  # requests of one process in the library at a time
CONFIDENTIAL = ("client_secret_basic", "client_secret_post")
AUTH_METHODS = (*CONFIDENTIAL, "none")  # "none": a public client says who it is, and proves it by the verifier alone

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came, each parameter once. `uri` begins with the server's public URL."""

    method: str
    uri: str
    parameters: Mapping[str, str]
    authorization: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What goes back; with `location` it is a redirect."""

    status: int  # of HTTP
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def location(self) -> str | None:
        return self.headers.get("Location")


@dataclass(frozen=True, slots=True)
class Wish:
    """What an app asks a customer for."""

    client: OAuthClient
    scopes: tuple[str, ...]
    redirect_uri: str


class OAuthServer(AuthorizationServer):  # type: ignore[misc]  # Authlib has no types
    """The protocol for one process. Its public methods are coroutines; the rest is called by the library in a thread."""

    def __init__(self, store: Store, *, issuer: str) -> None:
        super().__init__()
        self.store = store
        self.issuer = issuer
        self._threads = CapacityLimiter(THREADS)
        self.register_token_generator("default", _promised)
        self.register_grant(CodeGrant, [S256()])
        self.register_grant(RefreshGrant)
        self.register_grant(OwnGrant)
        self.register_endpoint(Revocation)
        self.register_endpoint(Introspection)

    async def examine(self, asked: Asked) -> Wish | Answered:
        """What is asked of the customer, or the refusal: back to the app where that is safe, else to whoever sits there."""

        def examined() -> Wish | Answered:
            request = self.create_oauth2_request(asked)
            try:
                grant = self.get_consent_grant(request)
            except OAuth2Error as refusal:
                return self._answered(refusal)
            return Wish(request.client.row, tuple(request.scope.split()), grant.redirect_uri)

        return await self._in_thread(examined, asked)

    async def decide(self, asked: Asked, customer: Viewer | None) -> Answered:
        """Back to the app: with a code when the customer allows what is asked; None denies it."""

        def decided() -> Answered:
            request = self.create_oauth2_request(asked)
            try:
                grant = self.get_consent_grant(request)
            except OAuth2Error as refusal:
                return self._answered(refusal)
            answered: Answered = self.create_authorization_response(request, grant_user=customer, grant=grant)
            return answered

        return await self._in_thread(decided, asked)

    async def token(self, asked: Asked) -> Answered:
        return await self._in_thread(lambda: self.create_token_response(asked), asked)

    async def end_token(self, asked: Asked) -> Answered:
        return await self._in_thread(lambda: self.create_endpoint_response(Revocation.ENDPOINT_NAME, asked), asked)

    async def introspect(self, asked: Asked) -> Answered:
        return await self._in_thread(lambda: self.create_endpoint_response(Introspection.ENDPOINT_NAME, asked), asked)

    async def _in_thread(self, work: Callable[[], Result], asked: Asked) -> Result | Answered:
        try:
            return await to_thread.run_sync(work, limiter=self._threads)
        except OAuth2Error as refusal:  # plain HTTP, above all, which the library refuses before it looks
            return self._answered(refusal)

    def _answered(self, refusal: OAuth2Error) -> Answered:
        return self.handle_response(*refusal())

    # ── what the library asks for, in a thread ──
    def wait(self, ask: Callable[..., Coroutine[Any, Any, Result]], *args: Any) -> Result:
        """What a coroutine function of the store returns."""
        return from_thread.run(ask, *args)

    def query_client(self, client_id: str) -> Client | None:
        return self.wait(self.store.client, client_id)

    def create_oauth2_request(self, request: "Asked | Request") -> "Request":
        return Request(request) if isinstance(request, Asked) else request

    def handle_response(self, status: int, body: Any, headers: Sequence[tuple[str, str]]) -> Answered:
        """A redirect says whose answer it is (RFC 9207), and never repeats a form to the next address (RFC 9700, 4.12)."""
        named = dict(headers)
        if "Location" in named:
            return Answered(303, {}, {"Location": add_params_to_uri(named["Location"], {"iss": self.issuer})})
        return Answered(status, body, named)

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""


class Request(OAuth2Request):  # type: ignore[misc]  # Authlib has no types
    def __init__(self, asked: Asked) -> None:
        super().__init__(asked.method, asked.uri, headers={"Authorization": asked.authorization} if asked.authorization else {})
        self.payload = BasicOAuth2Payload(dict(asked.parameters))

    @property
    def form(self) -> Mapping[str, str]:
        parameters: Mapping[str, str] = self.payload.data
        return parameters


class S256(CodeChallenge):  # type: ignore[misc]  # Authlib has no types
    """PKCE by its one safe method, demanded of every app: stock, it is optional for those with a secret, and `plain` if unsaid."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        asked = grant.request.form
        if not asked.get("code_challenge") or asked.get("code_challenge_method") != "S256":
            raise InvalidRequestError("A code_challenge is required, with code_challenge_method=S256.")
        super().validate_code_challenge(grant, redirect_uri)

    def get_authorization_code_challenge(self, authorization_code: Code) -> str:
        return authorization_code.row.challenge

    def get_authorization_code_challenge_method(self, authorization_code: Code) -> str:
        return "S256"


class CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]  # Authlib has no types
    TOKEN_ENDPOINT_AUTH_METHODS = list(AUTH_METHODS)

    @staticmethod
    def validate_authorization_redirect_uri(request: Request, client: Client) -> str:
        uri: str = request.payload.redirect_uri or ""
        if not client.check_redirect_uri(uri):  # stock would take a missing one, and repeat a wrong one in its sentence
            raise InvalidRequestError("The redirect_uri must be given, and be exactly one that was registered.")
        return uri

    def generate_authorization_code(self) -> str:
        return mint(Kind.OAUTH_CODE).text

    def save_authorization_code(self, code: str, request: Request) -> None:
        challenge, scopes = request.form["code_challenge"], request.scope.split()
        allowed = Allowed(request.client.row, scopes, request.payload.redirect_uri, digest(code), challenge)
        self.server.wait(self.server.store.consent, allowed, request.user)

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        row = self.server.wait(self.server.store.code, code, client.row)
        return Code(row) if row else None

    def authenticate_user(self, authorization_code: Code) -> object:
        return authorization_code.row.consent.customer

    def save_token(self, token: dict[str, Any]) -> None:
        row = self.request.authorization_code.row
        _fill(token, self.server.wait(self.server.store.redeem, row))

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """It was spent in the transaction that issued for it: stock deletes it afterwards, and 8 at once all got tokens."""


class RefreshGrant(grants.RefreshTokenGrant):  # type: ignore[misc]  # Authlib has no types
    TOKEN_ENDPOINT_AUTH_METHODS = list(AUTH_METHODS)
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Refreshing | None:
        row = self.server.wait(self.server.store.refresh_token, refresh_token, self.request.client.row)
        return Refreshing(row) if row else None

    def authenticate_user(self, refresh_token: Refreshing) -> object:
        return refresh_token.row.consent.customer

    def save_token(self, token: dict[str, Any]) -> None:
        row = self.request.refresh_token.row
        _fill(token, self.server.wait(self.server.store.rotate, row, token["scope"].split()))

    def revoke_old_credential(self, refresh_token: Refreshing) -> None:
        """It was spent in the transaction that issued for it."""


class OwnGrant(grants.ClientCredentialsGrant):  # type: ignore[misc]  # Authlib has no types
    TOKEN_ENDPOINT_AUTH_METHODS = list(CONFIDENTIAL)

    def save_token(self, token: dict[str, Any]) -> None:
        _fill(token, self.server.wait(self.server.store.issue_own, self.client.row, token["scope"].split()))


class _Answering:
    """What both token endpoints do alike."""

    server: OAuthServer

    def check_params(self, request: Request, client: Client) -> None:
        """The hint is no more than that: a token is found by its kind."""
        if not request.form.get("token"):
            raise InvalidRequestError("The token is missing.")

    def query_token(self, token_string: str, token_type_hint: str | None) -> Found | None:
        return self.server.wait(self.server.store.find, token_string)


class Revocation(_Answering, RevocationEndpoint):  # type: ignore[misc]  # Authlib has no types
    CLIENT_AUTH_METHODS = list(AUTH_METHODS)

    def revoke_token(self, token: Found, request: Request) -> None:
        self.server.wait(self.server.store.revoke, token)


class Introspection(_Answering, IntrospectionEndpoint):  # type: ignore[misc]  # Authlib has no types
    CLIENT_AUTH_METHODS = list(CONFIDENTIAL)

    def check_permission(self, token: Found, client: Client, request: Request) -> bool:
        return token.check_client(client)

    def introspect_token(self, token: Found) -> dict[str, Any]:
        about: dict[str, Any] = {
            "client_id": token.client_id,
            "token_type": "Bearer",
            "scope": token.get_scope(),
            "iss": self.server.issuer,
        }
        about |= {"iat": int(token.issued_at.timestamp()), "exp": int(token.expires_at.timestamp())}
        if token.customer is not None:
            about |= {"username": token.customer.username, "sub": global_id("Customer", token.customer.id)}
        return about


def _promised(*, grant_type: str, client: Client, scope: str | None, **_: object) -> dict[str, Any]:
    """What will be issued; the texts are filled in once it is."""
    allowed = client.own_scope(scope) if grant_type == OWN else client.get_allowed_scope(scope)
    if not allowed:
        raise InvalidScopeError
    return {"token_type": "Bearer", "scope": allowed}


def _fill(token: dict[str, Any], issued: Issued | None) -> None:
    if issued is None:
        raise InvalidGrantError("This was used already, or taken back.")
    token |= {"access_token": issued.access_token, "expires_in": issued.expires_in}
    if issued.refresh_token:
        token["refresh_token"] = issued.refresh_token
