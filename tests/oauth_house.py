"""A product whose customers log in by OAUTH, an app of its maker, and a browser without a screen: for tests of every door of OAuth."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from starlette.applications import Starlette

from auth.oauth import OAuthServer
from fleet.customers.consenting import Consents
from tests.house import PASSWORD, HouseTester
from transport.oauth import OAuthEndpoints
from transport.oauth_deciding import OAuthPages
from transport.shared_rates import own_rates

REDIRECT = "https://porch.example/back"
VERIFIER = "a-verifier-of-forty-three-characters-or-more-0123456789"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
KIM = "kim@example.com"


def authorization(client_id: str, /, **other: str | None) -> dict[str, str]:
    """An app's good request; a keyword replaces a parameter, None leaves it out."""
    asked: dict[str, str | None] = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": REDIRECT,
        "scope": "devices:read devices:call",
        "state": "xyz",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    return {name: value for name, value in {**asked, **other}.items() if value is not None}


def redirected(response: httpx.Response) -> tuple[str, dict[str, str]]:
    """Where a response sends the browser, and the parameters it takes along."""
    assert response.status_code == 303, response.text
    parts = urlsplit(response.headers["location"])
    found = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return parts._replace(query="").geturl(), found


@dataclass
class Porch:
    """The maker's app, confidential unless it was registered as public, and whoever sits at the browser."""

    http: httpx.AsyncClient
    client_id: str
    secret: str | None
    more: dict[str, Any] = field(default_factory=dict)

    # ── the browser ──
    async def press(self, page: httpx.Response, step: str, **typed: str) -> httpx.Response:
        """Send the page's form back with one of its buttons."""
        action = next(each for each in re.findall(r'action="([^"]*)"', page.text))
        token = re.search(r'name="form_token" value="([^"]*)"', page.text)
        assert token is not None, page.text
        return await self.http.post(unescape(action), data={"form_token": token[1], "step": step, **typed})

    async def at_consent(self, username: str = KIM, **asked: str | None) -> httpx.Response:
        """The page that asks for consent, after the log-in."""
        page = await self.http.get("/oauth/authorize", params=authorization(self.client_id, **asked))
        if 'value="log_in"' in page.text:
            entered = await self.press(page, "log_in", username=username, password=PASSWORD)
            page = await self.http.get(entered.headers["location"])
        assert 'value="allow"' in page.text, page.text
        return page

    async def code(self, **asked: str | None) -> str:
        """What the app is sent once the customer has allowed it."""
        where, found = redirected(await self.press(await self.at_consent(**asked), "allow"))
        assert (where, found["state"]) == (REDIRECT, "xyz")
        return found["code"]

    # ── the app's own program ──
    async def exchange(self, **form: str | None) -> httpx.Response:
        return await self.post("/oauth/token", **form)

    async def redeem(self, code: str, **form: str | None) -> httpx.Response:
        asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER, **form}
        return await self.post("/oauth/token", **asked)

    async def refresh(self, refresh_token: str, **form: str | None) -> httpx.Response:
        return await self.post("/oauth/token", grant_type="refresh_token", refresh_token=refresh_token, **form)

    async def tokens(self) -> dict[str, Any]:
        """A fresh pair, by all the steps before it."""
        answered = await self.redeem(await self.code())
        assert answered.status_code == 200, answered.text
        pair: dict[str, Any] = answered.json()
        return pair

    async def post(self, path: str, **form: str | None) -> httpx.Response:
        """As this client: by its secret, or by its name alone where it has none."""
        given = {name: value for name, value in form.items() if value is not None}
        if self.secret is None:
            return await self.http.post(path, data={"client_id": self.client_id, **given})
        return await self.http.post(path, data=given, auth=(self.client_id, self.secret))


async def a_product(tester: HouseTester, owner: str, name: str = "Lamp") -> int:
    """One whose customers log in by OAUTH."""
    number = await tester.product(owner, name)
    answered = await tester.do(
        "answerQuestions", "clientMutationId", owner, productId=number, answers=[{"key": "auth_method", "answer": "OAUTH"}]
    )
    assert answered["errors"] == []
    return number


async def a_client(tester: HouseTester, owner: str, product_id: int, **input: Any) -> tuple[str, str | None]:
    """(client id, secret) of a new app."""
    given = {"productId": product_id, "name": "Porch", "redirectUri": REDIRECT, **input}
    made = await tester.do("createOAuthClient", "clientId clientSecret", owner, **given)
    assert made["errors"] == []
    return made["clientId"], made["clientSecret"]


def doors(tester: HouseTester) -> Starlette:
    """The doors of OAuth of the tester's house."""
    house, settings = tester.house, tester.house.settings
    server, rates = OAuthServer(Consents(settings), issuer=settings.public_url), own_rates(settings)
    return Starlette(routes=[*OAuthPages(server, house, rates).routes(), *OAuthEndpoints(server, settings, rates).routes()])


@asynccontextmanager
async def porch(tester: HouseTester, **input: Any) -> AsyncIterator[Porch]:
    """Ann's product Lamp, its customer kim@example.com, and the app, talking to the house without a socket."""
    owner = await tester.owner()
    product_id = await a_product(tester, owner)
    made = await tester.do("createCustomer", "customer { id }", owner, productId=product_id, username=KIM, password=PASSWORD)
    assert made["errors"] == []
    client_id, secret = await a_client(tester, owner, product_id, **input)
    transport = httpx.ASGITransport(app=doors(tester), client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url=tester.house.settings.public_url) as http:
        yield Porch(http, client_id, secret, {"owner": owner, "product_id": product_id, "customer": made["customer"]["id"]})
