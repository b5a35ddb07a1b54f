"""Pages of other origins, on a real server: who may read what, who may open a socket, and tokens in addresses, which nobody may."""

import dataclasses
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from settings import Settings, SettingsRefused, from_environment
from tests.processes import ServerProcess

APP, FOREIGN = "https://app.example", "https://evil.example"
CANARY = "flc_Canary0Canary0Canary0Canary0Canary0"


@pytest.fixture
def server(migrated_sqlite: Settings, start_server: Callable[..., ServerProcess]) -> ServerProcess:
    return start_server(dataclasses.replace(migrated_sqlite, allowed_origins=(APP,)))


def preflight(url: str, origin: str) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return httpx.options(url, headers=asked, trust_env=False)


def shown_to(answered: httpx.Response) -> str | None:
    assert "access-control-allow-credentials" not in answered.headers
    return answered.headers.get("access-control-allow-origin")


def test_a_named_origin_may_read_the_api_and_the_token_endpoints_and_no_other_origin_may(server: ServerProcess) -> None:
    for path in ("/graphql", "/oauth/token", "/oauth/revoke", "/.well-known/oauth-authorization-server"):
        url = server.url + path
        assert (preflight(url, APP).status_code, shown_to(preflight(url, APP))) == (200, APP)
        assert (preflight(url, FOREIGN).status_code, shown_to(preflight(url, FOREIGN))) == (400, None)
        for origin in (FOREIGN, "null", f"{APP}.evil.example", "http://app.example", APP.upper()):
            assert shown_to(httpx.post(url, headers={"Origin": origin}, trust_env=False, timeout=60)) is None
    answered = httpx.post(f"{server.url}/oauth/token", data={"grant_type": "x"}, headers={"Origin": APP}, trust_env=False, timeout=60)
    assert (answered.json()["error"], shown_to(answered), answered.headers["vary"]) == ("unsupported_grant_type", APP, "Origin")


def test_no_page_of_another_origin_may_read_where_people_log_in(server: ServerProcess) -> None:
    for path in ("/oauth/authorize", "/oauth/sign-up", "/oauth/introspect"):
        assert shown_to(preflight(server.url + path, APP)) is None
        assert shown_to(httpx.get(server.url + path, headers={"Origin": APP}, trust_env=False, timeout=60)) is None


@pytest.mark.parametrize(("origin", "status"), [(APP, 101), (FOREIGN, 403), ("null", 403)])
def test_a_socket_is_opened_to_named_origins_alone(server: ServerProcess, origin: str, status: int) -> None:
    assert socket_status(f"{server.websocket_url}/graphql", origin=Origin(origin)) == status


def test_a_token_in_an_address_is_refused_and_not_logged(server: ServerProcess) -> None:
    for name in ("access_token", "token", "authorization"):
        asked: Any = {"query": "{ server { version } }", name: CANARY}
        answered = httpx.get(f"{server.url}/graphql", params=asked, headers={"GraphQL-Preflight": "1"}, trust_env=False, timeout=60)
        assert (answered.status_code, answered.json()["errors"][0]["extensions"]["code"]) == (400, "BAD_REQUEST")
        assert CANARY not in answered.text
        assert socket_status(f"{server.websocket_url}/graphql?{name}={CANARY}") == 400
    for path in ("token", "revoke", "introspect"):
        answered = httpx.post(f"{server.url}/oauth/{path}?token={CANARY}", data={"token": CANARY}, trust_env=False, timeout=60)
        assert (answered.status_code, answered.json()["error"]) == (400, "invalid_request")
    assert CANARY not in server.log()


def socket_status(url: str, origin: Origin | None = None) -> int:
    try:
        with connect(url, origin=origin, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


@pytest.mark.parametrize("origins", ["*", "https://*.example", "app.example", "https://app.example/"])
def test_origins_are_named_whole(origins: str) -> None:
    with pytest.raises(SettingsRefused, match="ALLOWED_ORIGINS"):
        from_environment({"ALLOWED_ORIGINS": origins, "SECRET_KEY": "x" * 32})
