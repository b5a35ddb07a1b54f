"""Clients for tests that talk to a real server: GraphQL over HTTP, and whatever runs through unmodified npm packages."""

import asyncio
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

NPM = Path(__file__).parent / "npm"


class Refused(AssertionError):
    """A mutation's payload had errors, or the answer did."""


class Client:
    """One caller of the GraphQL endpoint; `token` is sent once it is set."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.token = token
        self.http = httpx.AsyncClient(timeout=60, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.http.aclose()

    async def ask(self, query: str, **variables: Any) -> Any:
        response = await self.http.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, headers=self._headers())
        answer = response.json()
        if answer.get("errors"):
            raise Refused(answer["errors"])
        return answer["data"]

    async def do(self, mutation: str, answer: str, **input: Any) -> Any:
        data = await self.ask(_text(mutation, answer), input=input)
        if data[mutation]["errors"]:
            raise Refused(data[mutation]["errors"])
        return data[mutation]

    async def upload(self, mutation: str, answer: str, field: str, file_name: str, content: bytes, **input: Any) -> Any:
        """The GraphQL multipart request: `field` of the input is the file."""
        operations = {"query": _text(mutation, answer), "variables": {"input": {**input, field: None}}}
        form = {"operations": json.dumps(operations), "map": json.dumps({"0": [f"variables.input.{field}"]})}
        headers = {**self._headers(), "GraphQL-Preflight": "1"}
        response = await self.http.post(f"{self.url}/graphql", data=form, files={"0": (file_name, content)}, headers=headers)
        payload = response.json()
        if payload.get("errors") or payload["data"][mutation]["errors"]:
            raise Refused(payload)
        return payload["data"][mutation]

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def _text(mutation: str, answer: str) -> str:
    kind = f"{mutation[0].upper()}{mutation[1:]}Input!"
    return f"mutation ($input: {kind}) {{ {mutation}(input: $input) {{ {answer} errors {{ code message path reason }} }} }}"


def npm_command(script: str, *arguments: str, needs: str) -> list[str]:
    """How to run a script of tests/npm; skips the test, loudly, where there is no node or not the package that it `needs`."""
    node = shutil.which("node")
    if node is None or not (NPM / "node_modules" / needs).is_dir():
        pytest.skip(f"NOT TRIED with npm's {needs}: node or tests/npm/node_modules is missing; ./dev test prepares them.")
    return [node, str(NPM / script), *arguments]


class Watcher:
    """A subscription held by npm's graphql-ws in a process of its own; what it says is in `messages`, oldest first.

    With `events` it is npm's graphql-sse instead. One that `resumes` sets its variable `after` anew whenever it comes back.
    """

    def __init__(
        self, url: str, token: str, query: str, variables: dict[str, Any] | None = None, *, events: bool = False, resumes: bool = False
    ) -> None:
        script, needs, scheme = ("listen.mjs", "graphql-sse", "http") if events else ("watch.mjs", "graphql-ws", "ws")
        address = f"{scheme}{url.removeprefix('http')}/graphql"
        more = ["resumes"] if resumes else []
        self._command = npm_command(script, address, token, query, json.dumps(variables or {}), *more, needs=needs)
        self.messages: list[dict[str, Any]] = []
        self.heard_at: list[float] = []  # of each message, by the event loop's clock
        self._heard = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(*self._command, stdout=asyncio.subprocess.PIPE)
        self._reading = asyncio.create_task(self._read())
        await self.until(lambda: bool(self.messages))
        assert self.messages.pop(0) == {"connected": True}
        del self.heard_at[0]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading

    @property
    def pid(self) -> int:
        return self._process.pid

    async def until(self, reached: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait until what was heard is enough."""
        async with asyncio.timeout(timeout_s):
            while not reached():
                self._heard.clear()
                await self._heard.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.messages.append(json.loads(line))
            self.heard_at.append(asyncio.get_running_loop().time())
            self._heard.set()
