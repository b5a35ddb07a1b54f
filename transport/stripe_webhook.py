"""The door of the payment provider: raw bytes and a signature in; 200 when taken, 400 for a stranger's, 5xx to have it again."""

import logging
from collections.abc import Awaitable, Callable

import httpx
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from billing.signatures import BODY_MAX_BYTES, WebhookRefused
from errors import NotFound

log = logging.getLogger(__name__)

PATH = "/stripe/webhook"
Heard = Callable[[bytes, bytes], Awaitable[object]]


class StripeWebhook:
    """An ASGI endpoint for POST. `heard` is told the body as it came and the value of the signature header."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    def routes(self) -> list[Route]:
        return [Route(PATH, self.answer, methods=["POST"])]

    async def answer(self, request: Request) -> Response:
        try:
            body = await _body(request)
            signature = next((value for name, value in request.scope["headers"] if name == b"stripe-signature"), b"")
            await self._heard(body, signature)
        except WebhookRefused as refusal:
            return PlainTextResponse(str(refusal), 400)
        except NotFound:
            return PlainTextResponse("There is nothing here.", 404)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:  # the door's edge: the provider delivers again
            log.exception("A delivery of the payment provider failed; it will come again.")
            return PlainTextResponse("Deliver it again.", 500)
        return Response(status_code=200)


class InProcess:
    """Brings the sandbox's deliveries to the same door without a socket; before the door is there, nobody answers."""

    def __init__(self) -> None:
        self.door: StripeWebhook | None = None

    async def __call__(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        if self.door is None:
            return 0
        app = Starlette(routes=self.door.routes())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://flotilla.invalid") as client:
            return (await client.post(PATH, content=body, headers=headers)).status_code


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_MAX_BYTES:
            raise WebhookRefused("The body is too large.")
    return body
