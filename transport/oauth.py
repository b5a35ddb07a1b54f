"""The endpoints of OAuth where an app exchanges, ends and examines tokens, and where it learns what this server can."""

from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from auth.oauth import AUTH_METHODS, CONFIDENTIAL, Answered, Asked, OAuthServer
from auth.oauth_store import CODE, OWN, REFRESH
from auth.scopes import Holder, scopes_of
from errors import RateLimited
from settings import Settings
from transport import gate
from transport.gate import Refusal
from transport.origins import readable_from
from transport.rates import address_key, when_to_come_back
from transport.shared_rates import Rates

METADATA = "/.well-known/oauth-authorization-server"
AUTHORIZE, TOKEN, REVOKE, INTROSPECT = (f"/oauth/{name}" for name in ("authorize", "token", "revoke", "introspect"))
FORM = "application/x-www-form-urlencoded"
FORM_MAX_BYTES = 64 << 10
FIELDS_MAX = 50
_ANSWERS = {"Cache-Control": "no-store", "Pragma": "no-cache", "X-Content-Type-Options": "nosniff"}

Work = Callable[[Asked], Awaitable[Answered]]


class OAuthEndpoints:
    """What an app's own program talks to. Pages of the settings' allowed origins may read it, except introspection."""

    def __init__(self, server: OAuthServer, settings: Settings, rates: Rates) -> None:
        self._server = server
        self._settings = settings
        self._rate = rates.tokens

    def routes(self) -> list[BaseRoute]:
        for_pages = [
            Route(METADATA, self._metadata),
            Route(TOKEN, self._door(self._server.token), methods=["POST"]),
            Route(REVOKE, self._door(self._server.end_token), methods=["POST"]),
        ]
        own = (self._settings.public_url, *self._settings.allowed_origins)
        return [*readable_from(own, for_pages), Route(INTROSPECT, self._door(self._server.introspect), methods=["POST"])]

    async def _metadata(self, _: Request) -> Response:
        """Source: RFC 8414; RFC 9207."""
        url = self._settings.public_url
        content = {
            "issuer": url,
            "authorization_endpoint": url + AUTHORIZE,
            "token_endpoint": url + TOKEN,
            "revocation_endpoint": url + REVOKE,
            "introspection_endpoint": url + INTROSPECT,
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": [CODE, REFRESH, OWN],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": list(scopes_of(Holder.CUSTOMER)),
            "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
            "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
            "introspection_endpoint_auth_methods_supported": list(CONFIDENTIAL),
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(content, headers={"Cache-Control": "public, max-age=3600"})

    def _door(self, work: Work) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                await self._take(request)
                return _shown(await work(await self._asked(request)))
            except Refusal as refusal:
                return _refused(refusal.status, refusal.code, refusal.message)
            except RateLimited as refusal:
                return _refused(429, "temporarily_unavailable", refusal.message, when_to_come_back(refusal))
            except ClientDisconnect:
                return Response(status_code=400)

        return answer

    async def _take(self, request: Request) -> None:
        if self._settings.rate_limits:
            await self._rate.take(address_key(request.client.host if request.client else None))

    async def _asked(self, request: Request) -> Asked:
        """Raises Refusal for a form that is none, and for anything in the address, where logs and histories would keep it."""
        if request.url.query:
            raise Refusal(400, "Send the parameters in the body; none in the address.", code="invalid_request")
        if gate.media_type(request) != FORM:
            raise Refusal(400, f"Send {FORM}.", code="invalid_request")
        form = fields(await gate.body(request, FORM_MAX_BYTES))
        return Asked(request.method, self._settings.public_url + request.url.path, form, _readable(request.headers.get("authorization")))


def fields(raw: bytes, *, free: Sequence[str] = ()) -> dict[str, str]:
    """The parameters of a form or query, each once, empty ones left out as if absent.

    Those named in `free` may hold any text without NUL; the rest is what the RFCs let a value be: printable ASCII without " and \\.
    Raises Refusal (invalid_request).
    """
    try:
        found = parse_qsl(raw.decode("ascii"), strict_parsing=False, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise Refusal(400, "The parameters cannot be read.", code="invalid_request") from None
    if len({name for name, _ in found}) < len(found):
        raise Refusal(400, "A parameter is given more than once.", code="invalid_request")
    for name, value in found:
        plain = name + ("" if name in free else value)
        if "\0" in value or not all(" " <= c <= "~" and c not in '"\\' for c in plain):
            raise Refusal(400, "A parameter holds characters that none of them can have.", code="invalid_request")
    return {name: value for name, value in found if value}


def _readable(authorization: str | None) -> str | None:
    """The header, where it is one that the library can read; else it counts as absent."""
    word, _, text = (authorization or "").partition(" ")
    return f"{word} {text.strip()}" if text.strip() and _is_base64(text.strip()) else None


def _is_base64(text: str) -> bool:
    try:
        return b64decode(text, validate=True).isascii()
    except ValueError:
        return False


def _shown(answered: Answered) -> Response:
    return JSONResponse(dict(answered.body), answered.status, {**answered.headers, **_ANSWERS})


def _refused(status: int, error: str, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": error, "error_description": sentence}, status, {**_ANSWERS, **(headers or {})})
