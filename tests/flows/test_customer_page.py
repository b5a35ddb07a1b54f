"""The example page in a browser, on a real server: a customer logs in over OAuth, switches a light, and sees it switched."""

import asyncio
import dataclasses
import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from settings import Settings
from simulator.commands import turn
from simulator.device import SimulatedDevice
from simulator.flash import Flash
from tests.browser import Browser, chromium
from tests.clients import Client
from tests.processes import ServerProcess
from tests.servers import free_port

EXAMPLE = Path(__file__).parents[2] / "examples" / "customer_page"
DEVICE = "55ff6d04498b49aabbccdd01"
PASSWORD = "a sentence of some length"
SWITCH = "document.querySelector('#devices .switch')"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path, port: int) -> Iterator[str]:
    """The folder as any file server would serve it; where."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_customer_logs_in_and_switches_a_light_live(
    migrated_sqlite: Settings, tmp_path: Path, start_server: Callable[..., ServerProcess]
) -> None:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    server = start_server(dataclasses.replace(migrated_sqlite, allowed_origins=(origin,)))
    async with Client(server.url) as client:
        client.token = (await client.do("signUp", "token", email="ann@example.com", password=PASSWORD, name="Ann"))["token"]
        await client.do("createOrganization", "organization { slug }", name="Acme")
        product = await client.do("createProduct", "product { productId }", organization="acme", name="Porch Lamp", platform="PHOTON")
        number = product["product"]["productId"]
        await client.do("answerQuestions", "clientMutationId", productId=number, answers=[{"key": "auth_method", "answer": "OAUTH"}])
        key = (await client.do("rotateProvisioningKey", "provisioningKey", productId=number))["provisioningKey"]
        await client.do("importDevices", "import { added }", productId=number, deviceIds=[DEVICE])
        made = await client.do("createCustomer", "customer { id }", productId=number, username="kim@example.com", password=PASSWORD)
        await client.do("assignDevice", "clientMutationId", deviceId=DEVICE, customerId=made["customer"]["id"])
        asked = {"productId": number, "name": "Lamp page", "redirectUri": f"{origin}/", "public": True}
        app = await client.do("createOAuthClient", "clientId clientSecret", **asked)
        assert app["clientSecret"] is None

    folder = tmp_path / "page"
    shutil.copytree(EXAMPLE, folder)
    (folder / "settings.js").write_text(f'export const SERVER = "{server.url}";\nexport const CLIENT_ID = "{app["clientId"]}";\n')
    device = SimulatedDevice(
        f"{server.websocket_url}/device",
        Flash(DEVICE, number, 1),
        provisioning_key=key,
        functions={"led": lambda argument: turn(device, argument)},
        variables={"led": "off"},
    )
    running = asyncio.create_task(device.run())
    try:
        await asyncio.wait_for(device.online.wait(), 60)
        with served(folder, port):
            await asyncio.to_thread(_use, origin, asyncio.get_running_loop(), device)
    finally:
        device.stop()
        await running


def _use(origin: str, loop: asyncio.AbstractEventLoop, device: SimulatedDevice) -> None:
    with chromium(width=700, height=700) as browser:
        _log_in(browser, origin)
        browser.wait(f"return {SWITCH} && !{SWITCH}.disabled && document.querySelector('.presence').textContent === 'online'")
        assert browser.run(f"return {SWITCH}.ariaChecked") == "false"

        browser.click("#devices .switch")
        browser.wait(f"return {SWITCH}.ariaChecked === 'true'")
        assert device.variables["led"] == "on"

        asyncio.run_coroutine_threadsafe(_by_hand(device), loop).result(60)  # somebody at the lamp turns it off
        browser.wait(f"return {SWITCH}.ariaChecked === 'false'")

        browser.open(f"{origin}/")  # a reload goes on by the refresh token
        browser.wait(f"return {SWITCH} && !{SWITCH}.disabled")

        browser.click("#log-out")
        browser.wait("return document.querySelector('#said').textContent === 'You are logged out.'")
        browser.open(f"{origin}/")
        browser.wait("return !document.querySelector('#log-in').hidden")
        assert browser.console() == []


async def _by_hand(device: SimulatedDevice) -> None:
    turn(device, "off")


def _log_in(browser: Browser, origin: str) -> None:
    browser.open(f"{origin}/")
    browser.wait("return !document.querySelector('#log-in').hidden")
    browser.click("#log-in")
    browser.wait("return document.querySelector('#username')")
    browser.type("#username", "kim@example.com")
    browser.type("#password", PASSWORD)
    browser.click("button[value=log_in]")
    browser.wait("return document.querySelector('button[value=allow]')")
    browser.click("button[value=allow]")
    browser.wait(f"return location.href === '{origin}/'")
