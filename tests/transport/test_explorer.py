"""The explorer's page: nothing from another host, and in a real browser a query, a stream and the token in both."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest
from graphql import parse

from transport import explorer

BROWSER = Path(__file__).parent.parent / "browser.py"
SHOTS = Path(os.environ.get("SCREENSHOTS", Path(__file__).parent.parent / ".cache" / "screenshots"))


def _browser():
    if "browser" not in sys.modules:
        spec = importlib.util.spec_from_file_location("browser", BROWSER)
        sys.modules["browser"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["browser"])
    return sys.modules["browser"]


async def test_the_page_and_all_it_loads_come_from_here(client):
    page = await client.get("/")

    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 8 and all(path.startswith("/explorer/") for path in loaded)
    for path in loaded:
        asset = await client.get(path)
        assert asset.status_code == 200 and "immutable" in asset.headers["cache-control"]
        assert (await client.get(path, headers={"if-none-match": asset.headers["etag"]})).status_code == 304


async def test_no_other_file_is_served(client):
    for name in ("..%2fsettings.py", "page.html", "explorer.py", "nothing.js"):
        assert (await client.get(f"/explorer/{name}")).status_code == 404


def test_every_example_is_one_named_operation():
    assert len(explorer.examples()) == 11
    for example in explorer.examples():
        (operation,) = parse(example.query).definitions
        assert operation.name.value


def test_a_query_and_a_stream_run_in_a_browser_with_the_token_in_both(server):
    editor = "document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror"
    result = "document.querySelector('.result-window .CodeMirror').CodeMirror.getValue()"
    run = "document.querySelector('.graphiql-execute-button').click()"
    with _browser().chromium() as browser:
        browser.open(server.url)
        browser.wait("return document.querySelectorAll('.graphiql-tab').length === 11")
        browser.screenshot(SHOTS / "explorer-start.png")
        browser.run("document.querySelector('.graphiql-tab-add').click()")
        browser.type("#token", "ann\n")
        browser.run(f"{editor}.setValue('{{ hello viewer }}')")
        browser.wait(f"return {editor}.getValue() === '{{ hello viewer }}'")
        browser.run(run)
        browser.wait(f"return {result}.includes('viewer:ann')")

        browser.run(f"{editor}.setValue('subscription Count {{ count(to: 5000, pause: 0.05) }}')")
        browser.run(run)
        browser.wait(f"return {result}.includes('\"count\": 9')")
        browser.wait("return document.querySelector('#state-text').textContent === 'Live: 1 stream'")
        browser.screenshot(SHOTS / "explorer-stream.png")
        assert [socket.viewer_key for socket in server.door.sockets._open] == ["viewer:ann"]
        browser.run(run)
        browser.wait("return document.querySelector('#state-text').textContent === 'No live stream'")

        hosts = browser.run("return [...new Set(performance.getEntriesByType('resource').map(entry => new URL(entry.name).host))]")
        assert hosts == [f"127.0.0.1:{server.port}"]
        assert browser.console() == []


def test_a_refused_token_is_told_in_the_page(server):
    with _browser().chromium() as browser:
        browser.open(server.url)
        browser.wait("return document.querySelectorAll('.graphiql-tab').length === 11")
        browser.run("document.querySelector('.graphiql-tab-add').click()")
        browser.type("#token", "bad\n")
        browser.run("document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror.setValue('subscription { count(to: 5) }')")
        browser.run("document.querySelector('.graphiql-execute-button').click()")

        browser.wait("return document.querySelector('#state').dataset.state === 'refused'")
        shown = browser.run("return document.querySelector('.result-window .CodeMirror').CodeMirror.getValue()")
        assert "4401" in shown


@pytest.mark.parametrize("name", ["graphiql.min.js", "explorer.js"])
async def test_assets_are_packed_for_who_takes_gzip(client, name):
    plain = await client.get(f"/explorer/{name}", headers={"accept-encoding": "identity"})
    packed = await client.get(f"/explorer/{name}", headers={"accept-encoding": "gzip"})

    assert packed.headers["content-encoding"] == "gzip" and int(packed.headers["content-length"]) < len(plain.content) / 2
    assert packed.content == plain.content
