"""The explorer on the real server: its examples fit the schema, and a stranger sees a query answered and events arrive in a browser."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

from graphql import parse, validate

from schema.build import build_schema
from settings import Settings
from simulator.fleet import Plan, SimulatedFleet, numbered_ids
from tests.browser import Browser, chromium
from tests.clients import Client
from tests.processes import ServerProcess
from transport import explorer

SHOTS = Path(os.environ.get("SCREENSHOTS", Path(__file__).parents[1] / ".cache" / "screenshots"))
EDITOR = "document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror"
RESULT = "document.querySelector('.result-window .CodeMirror').CodeMirror.getValue()"
RUN = "document.querySelector('.graphiql-execute-button').click()"
QUERY = """query Fleet {{
  product(productId: {id}) {{
    name
    fleet {{ total online firmwareVersions {{ version devices }} }}
  }}
}}"""
STREAM = """# Every event of the fleet, as it is published.
subscription Live {{
  events(productId: {id}) {{
    event {{ deviceId name data publishedAt }}
  }}
}}"""


def test_every_example_is_valid_in_the_schema() -> None:
    schema = build_schema()._schema

    faults = {example.query: validate(schema, parse(example.query)) for example in explorer.examples()}

    assert {query: [fault.message for fault in found] for query, found in faults.items() if found} == {}


async def test_a_query_and_a_subscription_run_in_the_explorer(
    migrated_sqlite: Settings, start_server: Callable[..., ServerProcess]
) -> None:
    server = start_server(migrated_sqlite)
    async with Client(server.url) as client:
        client.token = (await client.do("signUp", "token", email="ann@example.com", password="a sentence of some length", name="Ann"))[
            "token"
        ]
        slug = (await client.do("createOrganization", "organization { slug }", name="Acme Lights"))["organization"]["slug"]
        made = await client.do("createProduct", "product { productId }", organization=slug, name="Porch Lamp", platform="PHOTON")
        product_id = made["product"]["productId"]
        key = (await client.do("rotateProvisioningKey", "provisioningKey", productId=product_id))["provisioningKey"]
        await client.do("importDevices", "import { added }", productId=product_id, deviceIds=numbered_ids(8))
        fleet = SimulatedFleet(Plan(f"{server.websocket_url}/device", numbered_ids(8), product_id, 1, provisioning_key=key, rate_per_s=0.5))
        running = asyncio.create_task(fleet.run())
        try:
            await asyncio.to_thread(_explore, server.url, client.token, product_id)
        finally:
            fleet.stop()
            await running


def _explore(url: str, token: str, product_id: int) -> None:
    with chromium() as browser:
        browser.open(url)
        browser.wait("return document.querySelectorAll('.graphiql-tab').length > 5")
        browser.run("document.querySelector('.graphiql-tab-add').click()")
        browser.type("#token", f"{token}\n")
        _write(browser, "Fleet", QUERY.format(id=product_id))
        _run_until(browser, '"online": 8')
        assert json.loads(str(browser.run(f"return {RESULT}")))["data"]["product"]["fleet"]["total"] == 8

        _write(browser, "Live", STREAM.format(id=product_id))
        browser.run(RUN)
        browser.wait(f"return ({RESULT}.match(/temperature/g) || []).length > 8", 60)
        browser.wait("return document.querySelector('#state-text').textContent === 'Live: 1 stream'")
        browser.screenshot(SHOTS / "explorer.png")
        hosts = browser.run("return [...new Set(performance.getEntriesByType('resource').map(entry => new URL(entry.name).host))]")
        assert hosts == [url.removeprefix("http://")]
        assert browser.console() == []


def _write(browser: Browser, name: str, text: str) -> None:
    """Type an operation; its name on the tab tells that the page has read it."""
    browser.run(f"{EDITOR}.setValue(arguments[0])", text)
    browser.wait(f"return document.querySelector('.graphiql-tab-active .graphiql-tab-button').textContent === '{name}'")


def _run_until(browser: Browser, wanted: str) -> None:
    """Run it again until the fleet has come online."""
    for _ in range(120):
        browser.run(RUN)
        browser.wait(f"return {RESULT}.includes('firmwareVersions')")
        if wanted in str(browser.run(f"return {RESULT}")):
            return
        browser.run("return new Promise(done => setTimeout(done, 500))")
    raise AssertionError(browser.run(f"return {RESULT}"))
