"""The log-in pages in a browser, by keyboard alone: a wrong password is said, denial goes back, consent goes back with a code."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from settings import Settings
from tests.browser import ENTER, TAB, Browser, chromium
from tests.clients import Client
from tests.flows.test_customer_page import served
from tests.house import PASSWORD
from tests.oauth_house import KIM, authorization
from tests.processes import ServerProcess
from tests.servers import free_port

SHOTS = Path(os.environ.get("SCREENSHOTS", Path(__file__).parents[1] / ".cache" / "screenshots"))
FOCUSED = "return document.activeElement.id || document.activeElement.textContent"


async def test_a_customer_gets_through_without_a_mouse(
    migrated_sqlite: Settings, tmp_path: Path, start_server: Callable[..., ServerProcess]
) -> None:
    server, app = start_server(migrated_sqlite), f"http://127.0.0.1:{free_port()}/"
    async with Client(server.url) as client:
        client.token = (await client.do("signUp", "token", email="ann@example.com", password=PASSWORD, name="Ann"))["token"]
        await client.do("createOrganization", "organization { slug }", name="Acme")
        made = await client.do("createProduct", "product { productId }", organization="acme", name="Porch Lamp", platform="PHOTON")
        number = made["product"]["productId"]
        await client.do("answerQuestions", "clientMutationId", productId=number, answers=[{"key": "auth_method", "answer": "OAUTH"}])
        await client.do("createCustomer", "customer { id }", productId=number, username=KIM, password=PASSWORD)
        asked: dict[str, Any] = {"productId": number, "name": "Evening Light", "redirectUri": app}
        client_id = (await client.do("createOAuthClient", "clientId", **asked))["clientId"]
    (tmp_path / "index.html").write_text("<!doctype html><title>The app</title>")
    url = f"{server.url}/oauth/authorize?{urlencode(authorization(client_id, redirect_uri=app))}"
    with served(tmp_path, int(app.rstrip("/").rpartition(":")[2])):
        denied, allowed, signed_up = await asyncio.to_thread(_walk, url, app)

    assert denied == {"error": "access_denied", "state": "xyz"}
    assert sorted(allowed) == sorted(signed_up) == ["code", "state"]
    assert allowed["state"] == signed_up["state"] == "xyz"


def _walk(url: str, app: str) -> list[dict[str, str]]:
    """What came back to the app of each decision."""
    with chromium(width=480, height=760) as browser:
        _is_wrong_once(browser, url)
        return [_denies(browser, app), _allows(browser, url, app), _signs_up(browser, url, app)]


def _is_wrong_once(browser: Browser, url: str) -> None:
    browser.open(url)
    assert browser.run("return [document.title, document.documentElement.lang]") == ["Log in to Porch Lamp", "en"]
    assert browser.run("return [...document.querySelectorAll('input:not([type=hidden])')].every(each => each.labels.length === 1)")
    assert browser.console() == []
    browser.screenshot(SHOTS / "log-in.png")
    assert browser.run(FOCUSED) == "username"
    browser.press(KIM)
    browser.press(TAB)
    browser.press(f"not the password{ENTER}")
    said = browser.wait("return document.querySelector('[role=alert]')?.textContent")
    assert said == "The user name or the password is wrong."
    assert browser.run("return [username.value, password.value]") == [KIM, ""]
    assert browser.run(FOCUSED) == "password"
    browser.press(PASSWORD + ENTER)
    browser.wait("return document.title === 'Allow Evening Light?'")
    browser.screenshot(SHOTS / "consent.png")


def _denies(browser: Browser, app: str) -> dict[str, str]:
    browser.press(ENTER)  # one too many at the log-in allows nothing
    browser.press(TAB)
    assert browser.run(FOCUSED) == "Allow"
    browser.press(TAB)
    assert browser.run(FOCUSED) == "Deny"
    browser.press(ENTER)
    return _answer(browser, app)


def _allows(browser: Browser, url: str, app: str) -> dict[str, str]:
    browser.open(url)
    browser.wait("return document.title === 'Allow Evening Light?'")
    browser.press(TAB + ENTER)
    return _answer(browser, app)


def _signs_up(browser: Browser, url: str, app: str) -> dict[str, str]:
    browser.open(url)
    browser.wait("return document.title === 'Allow Evening Light?'")
    browser.press(TAB + TAB + TAB)
    assert browser.run(FOCUSED) == "Use another account"
    browser.press(ENTER)
    browser.wait("return document.title === 'Log in to Porch Lamp'")
    browser.press(TAB + TAB + TAB)
    assert browser.run(FOCUSED) == "Sign up"
    browser.press(ENTER)
    browser.wait("return document.title === 'Sign up for Porch Lamp'")
    browser.press(f"lee@example.com{TAB}")
    browser.press(PASSWORD + ENTER)
    browser.wait("return document.body.textContent.includes('lee@example.com')")
    browser.press(TAB + ENTER)
    return _answer(browser, app)


def _answer(browser: Browser, app: str) -> dict[str, str]:
    """What came back to the app, but for the issuer and sentences."""
    browser.wait("return document.title === 'The app'")
    address = str(browser.run("return location.href"))
    assert address.startswith(f"{app}?")
    found = dict(parse_qsl(address.partition("?")[2]))
    return {name: value for name, value in found.items() if name not in ("iss", "error_description")}
