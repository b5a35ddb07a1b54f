"""A fleet in memory, served by a real uvicorn on a free port: what stands behind the gateway in its own and the simulator's tests."""

import asyncio
import contextlib
import hashlib
import itertools
import re
import socket
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from gateway import proofs
from gateway.connection import Refusal
from gateway.protocol import Closing, Update
from gateway.server import Gateway
from gateway.session import Limits
from gateway.upgrade import GATEWAY
from public_keys import is_public_key
from transport.uvicorn_protocol import FirstOrHttp


@dataclass(frozen=True, slots=True)
class Admitted:
    session_id: str
    epoch: int
    quarantined: bool
    device_id: str


class FakeFleet:
    """Knows `keys` (public key texts), `secrets` and `unkeyed` devices; everything that happens is written down."""

    def __init__(self, *, provisioning_key="pk"):
        self.provisioning_key = provisioning_key
        self.keys, self.secrets, self.unkeyed, self.quarantined, self.denied = {}, {}, set(), set(), set()
        self.hellos, self.events, self.statuses, self.enabled, self.gone, self.refused = [], {}, [], [], [], []
        self.connections = {}
        self.durable = asyncio.Event()
        self.durable.set()
        self.publishing = 0
        self.most_publishing = 0
        self.is_broken = False
        self.meanwhile = lambda hello, connection: None  # between the subscription and the welcome
        self._epochs = itertools.count(1)

    leaving = None

    def authenticate(self, hello, connection):
        connection.loop.call_soon(connection.admitted, self.judge(hello, connection))

    def judge(self, hello, connection):
        if self.is_broken:
            return Refusal(Closing.OVERLOADED)
        if not self._proved(hello, connection.nonce):
            return Refusal(Closing.WRONG_CREDENTIALS)
        if hello.device_id in self.denied:
            return Refusal(Closing.DENIED)
        self.hellos.append(hello)
        self.connections[hello.device_id] = connection
        self.meanwhile(hello, connection)
        epoch = next(self._epochs)
        return Admitted(f"s{epoch}", epoch, hello.device_id in self.quarantined, hello.device_id)

    def _proved(self, hello, nonce):
        id = hello.device_id
        if id in self.keys:
            return proofs.signature_proves(hello.signature, self.keys[id], nonce, id)
        if id in self.secrets:
            return proofs.mac_proves(hello.mac, self.secrets[id], nonce, id)
        if id not in self.unkeyed or not hello.public_key or not is_public_key(hello.public_key):
            return False
        if not proofs.provisioning_proves(hello.provisioning, self.provisioning_key, nonce, id, hello.public_key):
            return False
        self.keys[id] = hello.public_key
        return True

    async def publish(self, admission, event):
        self.publishing += 1
        self.most_publishing = max(self.most_publishing, self.publishing)
        try:
            await self.durable.wait()
            if self.is_broken:
                raise RuntimeError("the database is down")
            self.events.setdefault((admission.device_id, event.id), event)
        finally:
            self.publishing -= 1

    async def update_status(self, admission, status):
        self.statuses.append(status)

    async def updates_enabled(self, admission, enabled):
        self.enabled.append(enabled)

    def nacked(self, admission, code):
        self.refused.append(code)

    def left(self, admission, code):
        self.gone.append((admission.epoch, code))


class FirmwareShelf:
    """Serves files under /firmware/ with single ranges; `cuts` are the bytes after which a response is cut off, one each."""

    def __init__(self):
        self.files, self.requests, self.cuts, self.sent, self.ignores_ranges = {}, [], [], 0, False

    def offer(self, name, content, *, sequence, version, id="u1", **other):
        self.files[name] = content
        return Update(id, sequence, version, f"/firmware/{name}", len(content), hashlib.sha256(content).hexdigest(), **other)

    async def __call__(self, scope, receive, send):
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append(headers)
        content = self.files.get(scope["path"].removeprefix("/firmware/"))
        if content is None:
            await Response(status_code=404)(scope, receive, send)
            return
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if asked and not self.ignores_ranges and headers.get("if-range") == etag:
            start = int(asked[1])
        about = [(b"etag", etag.encode()), (b"content-length", str(len(content) - start).encode()), (b"accept-ranges", b"bytes")]
        if start:
            about.append((b"content-range", f"bytes {start}-{len(content) - 1}/{len(content)}".encode()))
        await send({"type": "http.response.start", "status": 206 if start else 200, "headers": about})
        cut = self.cuts.pop(0) if self.cuts else None
        for place in range(start, len(content), 4096):
            piece = content[place : place + 4096]
            if cut is not None and place - start + len(piece) > cut:
                raise ConnectionResetError  # uvicorn drops the connection in the middle of the body
            self.sent += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": place + 4096 < len(content)})


@dataclass
class Served:
    gateway: Gateway
    fleet: FakeFleet
    shelf: FirmwareShelf
    port: int
    server: uvicorn.Server

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.port}/device"


def with_devices(gateway):
    """The lifespan of an application beside which the gateway takes the devices."""

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield {GATEWAY: gateway}

    return lifespan


@contextlib.asynccontextmanager
async def serving(fleet=None, limits=None, *, connects_per_s=1000.0, port=0):
    """A real uvicorn with the gateway at /device and the shelf at /firmware/."""
    fleet, limits, shelf = fleet or FakeFleet(), limits or Limits(), FirmwareShelf()
    gateway = Gateway(fleet, limits, connects_per_s=connects_per_s)
    app = Starlette(routes=[Route("/firmware/{name}", shelf)], lifespan=with_devices(gateway))
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    config = uvicorn.Config(app, http=FirstOrHttp, lifespan="on", log_level="critical", timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield Served(gateway, fleet, shelf, listening.getsockname()[1], server)
    finally:
        fleet.durable.set()
        server.should_exit = True
        await task


async def until(is_so, *, within_s=60.0):
    """Wait until `is_so()`; an AssertionError that shows what was asked if it never is."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not is_so():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.01)
