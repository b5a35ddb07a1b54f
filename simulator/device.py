"""A whole device on the protocol: proves itself, keeps alive, publishes, answers, updates itself, comes back."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from firmware_formats.signing import Statement, is_signed_by
from gateway import proofs, protocol
from gateway.fields import Json
from gateway.protocol import Closing
from public_keys import public_half
from simulator.downloading import Download, DownloadFailed, Partial, PowerCut
from simulator.faults import Faults
from simulator.flash import Flash
from simulator.outbox import Outbox

OPEN_TIMEOUT_S: Final = 10.0
SEND_TIMEOUT_S: Final = 30.0
BACK_OFF_MAX_S: Final = 60.0
BOOT_S: Final = 0.5
CRASHES_AFTER_S: Final = 0.5  # of the hello: a build that runs a little
TOLD_EVERY_PERCENT: Final = 10
STAYS_AWAY: Final = {Closing.REPLACED}  # another device with our id is there: coming back would only throw it out again


def back_off_s(code: int | None, failures: int, rng: random.Random) -> float:
    """How long to stay away: anywhere in 0–10 s when the server restarts, else 1, 2, 4 … 60 s with a jitter of a half."""
    if code == Closing.RESTARTING and failures <= 1:
        return rng.uniform(0, 10)
    return float(min(BACK_OFF_MAX_S, 2 ** min(failures, 10) / 2) * rng.uniform(0.5, 1.5))


class SimulatedDevice:
    """One device. `run` lives until `stop`; everything else may be called at any time from the same event loop.

    `functions` take the argument and give an int32; `variables` are read live and may be changed. After an update the firmware carries
    the new version and, if `real_product_id` is given, that product id in place of the one the device reported before.
    With `trusted_keys`, public keys of the maker, it fetches only what one of them signed for this product, version and platform.
    `pace` multiplies every waiting time of its own (back-off, boot), for tests.
    """

    def __init__(
        self,
        url: str,
        flash: Flash,
        *,
        platform: str = "PHOTON",
        serial_number: str | None = None,
        provisioning_key: str | None = None,
        claim_code: str | None = None,
        real_product_id: int | None = None,
        trusted_keys: Sequence[str] = (),
        functions: Mapping[str, Callable[[str], int]] | None = None,
        variables: Mapping[str, Json] | None = None,
        faults: Faults | None = None,
        http: httpx.AsyncClient | None = None,
        pace: float = 1.0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.url = url
        self.flash = flash
        self.platform = platform
        self.serial_number = serial_number
        self.provisioning_key = provisioning_key
        self.claim_code = claim_code
        self.real_product_id = real_product_id
        self.trusted_keys = tuple(trusted_keys)
        self.functions = dict(functions or {})
        self.variables = dict(variables or {})
        self.faults = faults or Faults()
        self.outbox = Outbox(keeps_pace=not self.faults.has("flood"))
        self.pace = pace
        self.welcome: protocol.Welcome | None = None  # of the session that is open now
        self.closed_with: list[int | None] = []  # close codes, oldest first; None: the connection broke or could not be made
        self.received: list[protocol.Event] = []  # the newest 100 events our side sent
        self.online = asyncio.Event()
        self._http = http
        self._say_line = say
        self._rng = random.Random()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._keep_alive_s = 25.0
        self._clock_off = timedelta(0)
        self._updates_enabled = True
        self._update: protocol.Update | None = None
        self._updating: asyncio.Task[None] | None = None
        self._partial: Partial | None = None
        self._falls_to: int | None = None  # the version that a bad build makes room for again
        self._falling: asyncio.Task[None] | None = None

    # ── what its firmware does ──
    def post(self, name: str, data: str | None = None, *, id: str | None = None) -> "asyncio.Future[str]":
        """Publish an event; the future ends with ACKED or why not. It survives reconnects."""
        done = self.outbox.put(name, data, _now(), id=id)
        self._wake.set()
        return done

    async def set_updates_enabled(self, enabled: bool) -> None:
        self._updates_enabled = enabled
        await self._say(protocol.UpdatesEnabled(enabled))

    async def report_vitals(self, **measured: Json) -> None:
        await self._say(protocol.Vitals(measured))

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    async def reconnect(self) -> None:
        """Drop the connection and come back, as after a reset."""
        if self._socket is not None:
            await self._socket.close()

    # ── being connected ──
    async def run(self) -> None:
        """Stay connected until `stop`, coming back after every close; ends by itself if the id is in use elsewhere."""
        failures = 0
        while not self._stopping.is_set():
            code = await self._session()
            if self._stopping.is_set() or code in STAYS_AWAY:
                break
            failures = 1 if self.welcome is not None else failures + 1
            self.welcome = None
            await self._stay_away(back_off_s(code, failures, self._rng) if code != 1000 else BOOT_S)
        await self._cancel_update()
        if self._falling is not None:
            self._falling.cancel()

    async def _session(self) -> int | None:
        code: int | None = None
        try:
            async with connect(
                self.url,
                subprotocols=[Subprotocol(protocol.SUBPROTOCOL)],
                compression=None,
                proxy=None,
                ping_interval=None,  # ours are the protocol's own; the server's are answered by the library
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=2,
                max_size=protocol.FRAME_MAX_BYTES * 2,
            ) as socket:
                self._socket = socket
                await self._converse(socket)
                code = 1000
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1000 if closed.sent and closed.sent.code == 1000 else None
        except (OSError, InvalidHandshake, InvalidURI):  # not reachable, refused, silent for too long
            code = None
        finally:
            self._socket = None
            self.online.clear()
        self.closed_with.append(code)
        self._say_line(f"disconnected ({code})")
        return code

    async def _converse(self, socket: ClientConnection) -> None:
        speaking: asyncio.Task[None] | None = None
        flap_s = self.faults.amount("flap")
        try:
            async with asyncio.timeout(flap_s if flap_s else None):
                while True:
                    async with asyncio.timeout(2 * self._keep_alive_s):
                        frame = await socket.recv()
                    word = protocol.from_server(frame) if isinstance(frame, str) else None
                    if isinstance(word, protocol.Welcome):
                        self._greeted(word)
                        speaking = asyncio.create_task(self._speak(socket))
                    elif word is not None:
                        await self._heard(word)
        except protocol.ProtocolError as error:
            self._say_line(f"the server said something that is not the protocol: {error}")
            await socket.close(Closing.MALFORMED)
        finally:
            if speaking is not None:
                speaking.cancel()
                await asyncio.gather(speaking, return_exceptions=True)

    def _greeted(self, welcome: protocol.Welcome) -> None:
        self.welcome = welcome
        self.flash.session_id = welcome.session_id
        self.flash.keep()
        self.outbox.connected(welcome.publish_rate, _now())
        self.online.set()
        if self._falls_to is not None:
            self._falling = asyncio.create_task(self._fall_back(self._falls_to))
            self._falls_to = None
        self._say_line(f"online as {welcome.state}, running version {self.flash.version}")

    async def _speak(self, socket: ClientConnection) -> None:
        """What it says by itself: events as they fall due, and a heartbeat when there is nothing else to say."""
        if not self._updates_enabled:
            await self._say(protocol.UpdatesEnabled(False))
        ping_at = _now() + self._keep_alive_s
        with contextlib.suppress(ConnectionClosed, TimeoutError):  # the reader sees it and comes back
            while not self._stopping.is_set():
                self._wake.clear()
                for event in self.outbox.due(_now()):
                    await _send(socket, event)
                    ping_at = _now() + self._keep_alive_s
                if _now() >= ping_at:
                    await _send(socket, protocol.Ping())
                    ping_at = _now() + self._keep_alive_s
                wait = min(ping_at - _now(), self.outbox.next_due(_now()))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), max(0.0, wait))
            await socket.close()

    async def _stay_away(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds * self.pace)

    # ── what the server says ──
    async def _heard(self, word: protocol.ServerWord) -> None:
        match word:
            case protocol.Challenge():
                self._keep_alive_s = word.keep_alive
                self._clock_off = word.server_time - datetime.now(UTC)
                await self._say(self.hello(word.nonce))
            case protocol.Ack() | protocol.Nack():
                self.outbox.answered(word, _now())
                self._wake.set()
            case protocol.Update():
                await self._offered(word)
            case protocol.UpdateCanceled():
                if self._update is not None and self._update.id == word.id:
                    await self._cancel_update()
            case protocol.Call() | protocol.Read():
                if not self.faults.strikes("never-answer"):
                    await self._say(self._answer(word))
            case protocol.Event():
                self.received = [*self.received[-99:], word]
                self._say_line(f"event {word.name}: {word.data}")

    def hello(self, nonce: str) -> protocol.Hello:
        """What it says of itself, proved over `nonce`."""
        flash, key = self.flash, self.flash.private_key()
        public_key = None if key is None else public_half(key)
        is_first_contact = public_key is not None and self.provisioning_key is not None
        return protocol.Hello(
            device_id=flash.device_id,
            signature=None if key is None else proofs.signature(key, nonce, flash.device_id),
            mac=None if key is not None or flash.secret is None else proofs.mac(flash.secret, nonce, flash.device_id),
            public_key=public_key if is_first_contact else None,
            provisioning=proofs.provisioning(self.provisioning_key, nonce, flash.device_id, public_key)
            if self.provisioning_key is not None and public_key is not None
            else None,
            product_id=flash.product_id,
            firmware_version=flash.version,
            platform=self.platform,
            serial_number=self.serial_number,
            functions=tuple(self.functions),
            variables={name: _type_of(value) for name, value in self.variables.items()},
            resume=flash.session_id,
            claim_code=self.claim_code,
        )

    def _answer(self, word: protocol.Call | protocol.Read) -> protocol.Result:
        if isinstance(word, protocol.Read):
            if word.name not in self.variables:
                return protocol.Result(word.id, error=f"no variable {word.name}")
            return protocol.Result(word.id, self.variables[word.name])
        function = self.functions.get(word.name)
        if function is None:
            return protocol.Result(word.id, error=f"no function {word.name}")
        try:
            return protocol.Result(word.id, function(word.argument))
        except Exception as error:
            return protocol.Result(word.id, error=f"{type(error).__name__}: {error}")

    # ── updating itself ──
    async def _offered(self, update: protocol.Update) -> None:
        if self.faults.has("never-ack") or not (self._updates_enabled or update.force):
            return
        if update.sequence < self.flash.sequence or (update.expires_at and update.expires_at < datetime.now(UTC) + self._clock_off):
            self._say_line(f"ignored an old order for version {update.version}")
            return
        if self._updating is not None and not self._updating.done() and self._update is not None and self._update.id == update.id:
            return  # said again: already at it
        await self._cancel_update()
        self.flash.sequence = update.sequence
        self.flash.keep()
        self._update = update
        self._updating = asyncio.create_task(self._run_update(update))

    async def _cancel_update(self) -> None:
        task, self._updating, self._update = self._updating, None, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run_update(self, update: protocol.Update) -> None:
        self._say_line(f"version {update.version} is offered")
        try:
            self._require_trust(update)
            await self._download(update)
            await self._say(protocol.UpdateStatus(update.id, "INSTALLING", 100))
            await asyncio.sleep(BOOT_S * self.pace)
            self._boot(update)
            await self.reconnect()
        except PowerCut:
            if self._socket is not None:
                self._socket.transport.abort()
        except (DownloadFailed, httpx.HTTPError, httpx.InvalidURL) as error:
            self._say_line(f"update failed: {error}")
            await self._say(protocol.UpdateStatus(update.id, "FAILED", error=str(error) or type(error).__name__))

    def _require_trust(self, update: protocol.Update) -> None:
        """Before a byte is fetched: what the signature covers is all in the offer. Raises DownloadFailed."""
        product_id = self.real_product_id or self.flash.product_id or 0
        about = Statement(product_id, update.version, update.sha256, update.size, self.platform)
        if self.trusted_keys and not any(is_signed_by(key, update.signature or "", about) for key in self.trusted_keys):
            what = "a signature that no trusted key made for it" if update.signature else "no signature"
            raise DownloadFailed(f"version {update.version} comes with {what}")

    async def _download(self, update: protocol.Update) -> None:
        if self._partial is None or self._partial.sha256 != update.sha256:
            self._partial = Partial(update.sha256)
        told = -1

        async def tell(percent: int) -> None:
            nonlocal told
            if percent // TOLD_EVERY_PERCENT > told:
                told = percent // TOLD_EVERY_PERCENT
                await self._say(protocol.UpdateStatus(update.id, "DOWNLOADING", min(100, percent)))

        async with contextlib.AsyncExitStack() as stack:
            own = httpx.AsyncClient(trust_env=False) if self._http is None else None
            http = await stack.enter_async_context(own) if own is not None else self._http
            assert http is not None
            await tell(0)
            await Download(http, self._download_url(update.url), update, self._partial, self.faults, retry_s=0.5 * self.pace).run(tell)
        self._partial = None

    def _download_url(self, url: str) -> str:
        """Relative to the server the socket goes to."""
        scheme, place, _, _, _ = urlsplit(self.url)
        return urljoin(urlunsplit(("https" if scheme == "wss" else "http", place, "/", "", "")), url)

    def _boot(self, update: protocol.Update) -> None:
        self._update = self._updating = None
        if self.faults.strikes("crash-after-boot"):
            self._say_line(f"version {update.version} crashed, back to {self.flash.version}")
            return
        if self.faults.amount("falls-back") == update.version:
            self._falls_to = self.flash.version
        self.flash.version = update.version
        self.flash.product_id = self.real_product_id or self.flash.product_id
        self.flash.keep()
        self._say_line(f"booted version {update.version}")

    async def _fall_back(self, version: int) -> None:
        await asyncio.sleep(CRASHES_AFTER_S * self.pace)
        self._say_line(f"version {self.flash.version} crashed, back to {version}")
        self.flash.version = version
        self.flash.keep()
        await self.reconnect()

    async def _say(self, word: protocol.DeviceWord) -> None:
        """Say it if there is a connection; what matters is said again after the next hello."""
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                await _send(self._socket, word)


async def _send(socket: ClientConnection, word: protocol.DeviceWord) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await socket.send(protocol.encode(word))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _type_of(value: Json) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int32"
    return "double" if isinstance(value, float) else "string"
