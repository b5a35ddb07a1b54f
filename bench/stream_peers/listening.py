"""Serves an ASGI app on a free port and says which, for the peers in Python."""

import gc
import json
import socket

import uvicorn
from starlette.types import ASGIApp


def serve(app: ASGIApp) -> None:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(2048)
    port = listening.getsockname()[1]

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            gc.collect()  # as ours does, or the collector is what is measured
            gc.freeze()
            gc.set_threshold(20000, 50, 100)
            print(json.dumps({"port": port, "publish": port}), flush=True)

    config = uvicorn.Config(app, ws_per_message_deflate=False, access_log=False, log_level="warning", lifespan="off")
    Server(config).run(sockets=[listening])  # on uvloop, as ours
