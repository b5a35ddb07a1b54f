"""Running the ASGI app in this process: uvicorn with our connections, garbage collection tuned, and an end within fifteen seconds."""

import asyncio
import faulthandler
import gc
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable

import uvicorn
from starlette.types import ASGIApp

from settings import Settings
from transport.uvicorn_protocol import FirstOrHttp, finite_websocket
from transport.websocket import PING_INTERVAL_S, PING_TIMEOUT_S

log = logging.getLogger(__name__)

DRAIN_S = 5.0  # to send sockets away
DRAIN_MARGIN_S = 1.0
GRACE_S = 2  # for requests under way after that
END_S = 14.0  # from the signal; what hangs still, on a silent database or a stuck thread, is given up with the process
COLLECT_TICKS = 600  # of a tenth of a second
USER_TIMEOUT_MS = 30_000  # TCP's own patience with a peer that acknowledges nothing
KEEP_ALIVE_S = 65  # an idle connection; longer than the minute after which proxies drop theirs
Drain = Callable[[float], Awaitable[None]]
Ready = Callable[[int], None]


class Server(uvicorn.Server):
    """uvicorn's server that drains before it closes.

    `drain(seconds)` sends the sockets away; readiness should turn false with it. `ready` is told the port once connections are
    accepted.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain | None = None, ready: Ready | None = None) -> None:
        super().__init__(config)
        self._drain = drain
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What start-up made lives as long as the process: taking it out of the collector's sight saves 25-150 ms stalls.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20000, 50, 100)
        if self._ready and sockets:
            self._ready(sockets[0].getsockname()[1])

    async def on_tick(self, counter: int) -> bool:
        """Once a minute what is young is collected: by the thresholds alone a quiet server would keep an hour's rings of objects."""
        if counter and counter % COLLECT_TICKS == 0:
            gc.collect(1)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        if self._drain and not self.force_exit:
            try:
                async with asyncio.timeout(DRAIN_S + DRAIN_MARGIN_S):
                    await self._drain(DRAIN_S)
            except TimeoutError:
                log.warning("Draining took longer than %g s; the rest is closed at once.", DRAIN_S + DRAIN_MARGIN_S)
            except Exception:
                log.exception("draining failed; the rest is closed at once")
        await super().shutdown(sockets)
        self._captured_signals.clear()  # stock would raise them again: an asked-for end is exit code 0


class _ProcessServer(Server):
    """The server of a process that is nothing else, and ends with it in time whatever hangs."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        force = threading.Timer(END_S, _end_by_force)
        force.daemon = True
        force.start()  # never canceled: the event loop waits for its tasks and threads after we return
        await super().shutdown(sockets)


def _end_by_force() -> None:
    log.error("Not ended %g s after the signal; the process is given up with what hangs:", END_S)
    faulthandler.dump_traceback()
    os._exit(1)


def run(app: ASGIApp, settings: Settings, *, drain: Drain | None = None, ready: Ready | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain and end. `ready` is told the port once connections are accepted.

    Raises OSError when the address is taken.
    """
    listening = listen(settings.host, settings.port)
    _ProcessServer(config(app, settings), drain, ready).run(sockets=[listening])


def config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """uvicorn's settings for the app: our connections, one message at most 1 MiB, no compression, no boasting headers."""
    return uvicorn.Config(
        app,
        http=FirstOrHttp,
        ws=finite_websocket(settings.stalled_reader_s),
        ws_max_size=settings.socket_frame_max_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=PING_INTERVAL_S,
        ws_ping_timeout=PING_TIMEOUT_S,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="info" if settings.log_level == "DEBUG" else "warning",
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        lifespan="on",
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket whose connections give up a silent peer after 30 s, where the system can. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        listening.bind(address)
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    return listening
