"""Release firmware out of a build: upload it, flash the test group, wait until its devices report it, release. Standard library only.

    FLOTILLA_TOKEN=… python ci_release.py lamp.bin --url https://fleet.example.com --product 1000 --version 7 --test-group test-group

The token is an API user's, with the scopes products:read, devices:read, firmware:read, firmware:write and firmware:release. A build
that runs again goes on where it was: the same file is not uploaded twice. Exit code 0: released; 1: refused, or the devices did not
prove it in time.
"""

import argparse
import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LOOK_EVERY_S = 2.0
ANSWER_WITHIN_S = 300.0  # an upload over a slow line
AT_ONCE = 50  # devices asked about in one request
FOUND = "query ($product: Int!, $version: Int!) { product(productId: $product) { firmware(version: $version) { sha256 damagedAt } } }"


class Failed(Exception):
    """The release ends here; the message says why."""


class Fleet:
    """The GraphQL endpoint of one server, as one API user."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url.rstrip('/')}/graphql"
        self._headers = {"Authorization": f"Bearer {token}", "GraphQL-Preflight": "1"}

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a query. Raises Failed."""
        return self._sent(json.dumps({"query": query, "variables": variables}).encode(), "application/json")

    def do(self, mutation: str, answer: str, *, file: tuple[str, bytes] | None = None, **given: Any) -> Any:
        """One mutation; `file` goes along as its input field "binary". Raises Failed with the server's own sentence."""
        kind = f"{mutation[0].upper()}{mutation[1:]}Input!"
        query = f"mutation ($input: {kind}) {{ {mutation}(input: $input) {{ {answer} errors {{ code reason message }} }} }}"
        if file is None:
            payload = self.ask(query, input=given)[mutation]
        else:
            payload = self._sent(*_multipart({"query": query, "variables": {"input": {**given, "binary": None}}}, *file))[mutation]
        if payload["errors"]:
            raise Failed("; ".join(f"{error['reason'] or error['code']}: {error['message']}" for error in payload["errors"]))
        return payload

    def _sent(self, body: bytes, kind: str) -> Any:
        request = urllib.request.Request(self._url, body, {**self._headers, "Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise Failed(f"{self._url} answered {error.code}: {error.read(2000).decode(errors='replace')}") from None
        except (OSError, ValueError) as error:
            raise Failed(f"{self._url} could not be asked: {error}") from None
        if answer.get("errors"):
            raise Failed("; ".join(error["message"] for error in answer["errors"]))
        return answer["data"]


def _multipart(operations: dict[str, Any], name: str, content: bytes) -> tuple[bytes, str]:
    """The GraphQL multipart request, and its content type."""
    border = uuid.uuid4().hex
    fields = {"operations": json.dumps(operations), "map": json.dumps({"0": ["variables.input.binary"]})}
    lines = [f'--{border}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{text}\r\n' for field, text in fields.items()]
    lines.append(f'--{border}\r\nContent-Disposition: form-data; name="0"; filename="{name}"\r\n\r\n')
    return "".join(lines).encode() + content + f"\r\n--{border}--\r\n".encode(), f"multipart/form-data; boundary={border}"


def upload(fleet: Fleet, asked: argparse.Namespace) -> None:
    content = asked.binary.read_bytes()
    there = fleet.ask(FOUND, product=asked.product, version=asked.version)["product"]
    if there is None:
        raise Failed(f"The token reaches no product {asked.product}.")
    if there["firmware"] and there["firmware"]["sha256"] == hashlib.sha256(content).hexdigest() and not there["firmware"]["damagedAt"]:
        print(f"version {asked.version} is there already", flush=True)
        return
    given = {"productId": asked.product, "version": asked.version, "title": asked.title or f"Version {asked.version}"}
    given |= {"signature": asked.signature} if asked.signature else {}
    fleet.do("uploadFirmware", "firmware { version }", file=("firmware.bin", content), **given)
    print(f"uploaded version {asked.version}, {len(content)} bytes", flush=True)


def flash(fleet: Fleet, asked: argparse.Namespace) -> list[str]:
    """The ids of the devices that are being brought to it: those of the group that are online."""
    given = {"productId": asked.product, "firmwareVersion": asked.version, "group": asked.test_group, "when": "NOW"}
    payload = fleet.do("lockAndFlash", "devices { deviceId } rejected { deviceId code message }", **given)
    for each in payload["rejected"]:
        print(f"{each['deviceId']} is left out: {each['message']}", flush=True)
    if not payload["devices"]:
        raise Failed(f"The group {asked.test_group} is empty.")
    return [device["deviceId"] for device in payload["devices"]]


def wait_for_proof(fleet: Fleet, asked: argparse.Namespace, ids: Sequence[str]) -> None:
    """Until each of the devices reports the version itself. One whose updates are blocked, or time that runs out, ends it."""
    print(f"waiting for {len(ids)} devices to report version {asked.version}", flush=True)
    deadline = time.monotonic() + asked.wait
    while True:
        found = list(_devices(fleet, ids))
        missing = [device for device in found if device["firmwareVersion"] != asked.version]
        blocked = [device for device in missing if (device["update"] or {}).get("state") == "BLOCKED"]
        if not missing:
            return
        if blocked:
            raise Failed("; ".join(f"{device['deviceId']} was not updated: {device['update']['error']}" for device in blocked))
        if time.monotonic() > deadline:
            raise Failed(f"After {asked.wait:g} s {len(missing)} of {len(ids)} devices do not report version {asked.version}.")
        time.sleep(LOOK_EVERY_S)


def _devices(fleet: Fleet, ids: Sequence[str]) -> Iterator[Any]:
    for start in range(0, len(ids), AT_ONCE):
        fields = "{ deviceId firmwareVersion update { state error } }"
        query = " ".join(f'd{place}: device(deviceId: "{each}") {fields}' for place, each in enumerate(ids[start : start + AT_ONCE]))
        yield from (device for device in fleet.ask(f"{{ {query} }}").values() if device is not None)


def release(fleet: Fleet, asked: argparse.Namespace) -> None:
    given = {"productId": asked.product, "version": asked.version, "immediate": asked.immediate}
    fleet.do("releaseFirmware", "firmware { version }", **given, **({"group": asked.group} if asked.group else {}))
    print(f"released version {asked.version} to {asked.group or 'the product'}", flush=True)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Upload firmware, flash the test group, wait for proof, release.")
    parser.add_argument("binary", type=Path)
    parser.add_argument("--url", required=True, help="where the server is")
    parser.add_argument("--product", type=int, required=True, help="the product's number")
    parser.add_argument("--version", type=int, required=True, help="as compiled into the binary")
    parser.add_argument("--test-group", required=True, help="the path of the group whose devices prove it")
    parser.add_argument("--title", help="how people call it; distinct in the product")
    parser.add_argument("--signature", metavar="SIGNATURE", help="of `flotilla sign`, with the =, if the team takes only signed firmware")
    parser.add_argument("--group", help="release to this group alone, not to the product")
    parser.add_argument("--immediate", action="store_true", help="offer it to devices that are online now, not at their next hello")
    parser.add_argument("--wait", type=float, default=600.0, help="seconds for the test group; default 600")
    return parser.parse_args()


def main() -> None:
    asked = _asked()
    fleet = Fleet(asked.url, os.environ.get("FLOTILLA_TOKEN", ""))
    try:
        upload(fleet, asked)
        wait_for_proof(fleet, asked, flash(fleet, asked))
        release(fleet, asked)
    except Failed as reason:
        sys.exit(f"not released: {reason}")


if __name__ == "__main__":
    main()
