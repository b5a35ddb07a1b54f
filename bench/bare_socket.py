"""The peer of `bench devices`: an ASGI application that accepts sockets, says what a device waits for, and keeps nothing."""

from starlette.types import Receive, Scope, Send

CHALLENGE = '{"type":"challenge","nonce":"' + "A" * 43 + '","serverTime":"2026-01-01T00:00:00.000Z","keepAlive":25}'


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "websocket.accept", "subprotocol": "flotilla.device.v1"})
        await send({"type": "websocket.send", "text": CHALLENGE})
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": '{"type":"welcome"}'})
