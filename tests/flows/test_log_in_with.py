"""Apps written on libraries of others log customers in over OAuth, at real server processes; nothing secret reaches a log."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client
from oauthlib.oauth2 import BackendApplicationClient, WebApplicationClient

from settings import Settings
from tests.clients import Client, Refused
from tests.house import PASSWORD
from tests.oauth_house import KIM, REDIRECT, VERIFIER, Porch
from tests.processes import ServerProcess

SCOPE = "devices:read devices:call"


@dataclass
class Fleet:
    """Two server processes on one database, a product, its customer, and the app."""

    servers: list[ServerProcess]
    product_id: int
    client_id: str
    secret: str

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]


@pytest.fixture
async def fleet(migrated_postgres: Settings, start_server: Callable[..., ServerProcess]) -> Fleet:
    first = start_server(migrated_postgres, LOG_LEVEL="DEBUG")
    second = start_server(migrated_postgres, LOG_LEVEL="DEBUG", PUBLIC_URL=first.url)  # as behind one balancer
    async with Client(first.url) as client:
        client.token = (await client.do("signUp", "token", email="ann@example.com", password=PASSWORD, name="Ann"))["token"]
        await client.do("createOrganization", "organization { slug }", name="Acme")
        made = await client.do("createProduct", "product { productId }", organization="acme", name="Lamp", platform="PHOTON")
        number = made["product"]["productId"]
        await client.do("answerQuestions", "clientMutationId", productId=number, answers=[{"key": "auth_method", "answer": "OAUTH"}])
        await client.do("createCustomer", "customer { id }", productId=number, username=KIM, password=PASSWORD)
        asked = {"productId": number, "name": "Porch", "redirectUri": REDIRECT, "ownScopes": ["devices:read"]}
        app = await client.do("createOAuthClient", "clientId clientSecret", **asked)
    return Fleet([first, second], number, app["clientId"], app["clientSecret"])


async def decided(fleet: Fleet, url: str, button: str) -> str:
    """Where the browser ends after the customer, sent to `url` by an app, has logged in and pressed the button."""
    async with httpx.AsyncClient(base_url=fleet.urls[0], trust_env=False, timeout=60) as http:
        browser = Porch(http, fleet.client_id, None)
        entered = await browser.press(await http.get(url), "log_in", username=KIM, password=PASSWORD)
        answered = await browser.press(await http.get(entered.headers["location"]), button)
    assert answered.status_code == 303
    return str(answered.headers["location"])


async def kind_behind(url: str, token: str) -> str:
    async with Client(url, token) as client:
        return str((await client.ask("{ viewer { kind } }"))["viewer"]["kind"])


async def test_authlibs_client_goes_through_every_flow(fleet: Fleet) -> None:
    here, there = fleet.urls
    metadata = httpx.get(f"{there}/.well-known/oauth-authorization-server", trust_env=False, timeout=60).json()
    assert metadata["issuer"] == here
    async with AsyncOAuth2Client(
        fleet.client_id, fleet.secret, redirect_uri=REDIRECT, scope=SCOPE, code_challenge_method="S256", trust_env=False, timeout=60
    ) as app:
        url, state = app.create_authorization_url(metadata["authorization_endpoint"], code_verifier=VERIFIER)
        back = await decided(fleet, url, "allow")
        pair = await app.fetch_token(f"{there}/oauth/token", authorization_response=back, code_verifier=VERIFIER, state=state)
        assert await kind_behind(here, pair["access_token"]) == "CUSTOMER"

        refreshed = await app.refresh_token(metadata["token_endpoint"], pair["refresh_token"])
        assert await kind_behind(there, refreshed["access_token"]) == "CUSTOMER"

        looked = await app.introspect_token(metadata["introspection_endpoint"], refreshed["access_token"])
        assert (looked.json()["active"], looked.json()["username"]) == (True, KIM)
        await app.revoke_token(metadata["revocation_endpoint"], refreshed["refresh_token"])
        with pytest.raises(Refused):
            await kind_behind(there, refreshed["access_token"])

    async with AsyncOAuth2Client(fleet.client_id, fleet.secret, trust_env=False, timeout=60) as app:
        own = await app.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    assert await kind_behind(here, own["access_token"]) == "API_USER"

    secrets = [fleet.secret, PASSWORD, *dict(parse_qsl(back.partition("?")[2])).values(), own["access_token"]]
    secrets = [text for text in secrets if text not in (here, state)]
    secrets += [pair[name] for name in ("access_token", "refresh_token")] + [refreshed[name] for name in ("access_token", "refresh_token")]
    assert len(secrets) == 8
    assert [text for server in fleet.servers for text in secrets if text in server.log()] == []


async def test_oauthlibs_client_understands_every_answer(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # it does not except the own machine
    app, here = WebApplicationClient(fleet.client_id), fleet.urls[0]
    asked: dict[str, Any] = {"redirect_uri": REDIRECT, "scope": SCOPE.split(), "state": "of oauthlib"}
    challenge = app.create_code_challenge(VERIFIER, "S256")
    url = app.prepare_request_uri(f"{here}/oauth/authorize", code_challenge=challenge, code_challenge_method="S256", **asked)

    with pytest.raises(Exception, match="access_denied"):
        app.parse_request_uri_response(await decided(fleet, url, "deny"), state="of oauthlib")
    back = await decided(fleet, url, "allow")
    code = app.parse_request_uri_response(back, state="of oauthlib")["code"]
    body = app.prepare_request_body(code, redirect_uri=REDIRECT, code_verifier=VERIFIER, include_client_id=False)
    pair = app.parse_request_body_response(await _posted(fleet, body), scope=SCOPE.split())
    refreshed = app.parse_request_body_response(await _posted(fleet, app.prepare_refresh_body(refresh_token=pair["refresh_token"])))

    assert await kind_behind(here, refreshed["access_token"]) == "CUSTOMER"
    own = BackendApplicationClient(fleet.client_id)
    token = own.parse_request_body_response(await _posted(fleet, own.prepare_request_body(include_client_id=False)))
    assert await kind_behind(here, token["access_token"]) == "API_USER"


async def test_of_eight_redemptions_at_two_processes_one_wins_and_the_family_ends(fleet: Fleet) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        for _ in range(5):
            async with httpx.AsyncClient(base_url=fleet.urls[0], trust_env=False, timeout=60) as browser:
                code = await Porch(browser, fleet.client_id, fleet.secret).code()
            form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
            urls = [f"{fleet.urls[number % 2]}/oauth/token" for number in range(8)]

            answered = await asyncio.gather(*(http.post(url, data=form, auth=(fleet.client_id, fleet.secret)) for url in urls))

            assert sorted(each.status_code for each in answered) == [200] + [400] * 7
            winner = next(each.json() for each in answered if each.status_code == 200)
            for url in fleet.urls:
                with pytest.raises(Refused):
                    await kind_behind(url, winner["access_token"])


async def _posted(fleet: Fleet, body: str) -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url = f"{fleet.urls[1]}/oauth/token"
        return (await http.post(url, content=body, headers=headers, auth=(fleet.client_id, fleet.secret))).text
