"""Whether the process lives, whether it is ready for callers, and what it counted: /healthz, /readyz, /metrics."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

log = logging.getLogger(__name__)
CHECK_S = 2.0  # what each dependency has to answer
Check = Callable[[], Awaitable[None]]


def routes(checks: Mapping[str, Check], *, is_draining: Callable[[], bool] = lambda: False) -> list[Route]:
    """The three routes. A check is one dependency's: it returns when all is well and raises when not."""
    readiness = Readiness(checks, is_draining)

    async def ready(request: Request) -> Response:
        return await readiness.answer()

    return [Route("/healthz", _alive), Route("/readyz", ready), Route("/metrics", _counted)]


class Readiness:
    """Asks every dependency at once, each for at most two seconds; one that hangs is not asked again until it has answered."""

    def __init__(self, checks: Mapping[str, Check], is_draining: Callable[[], bool]) -> None:
        self._checks = checks
        self._is_draining = is_draining
        self._asked: dict[str, asyncio.Task[None]] = {}

    async def answer(self) -> Response:
        found = await self._found()
        is_ready = all(state == "ok" for state in found.values()) and not self._is_draining()
        content = {"ready": is_ready, "draining": self._is_draining(), "checks": found}
        return JSONResponse(content, 200 if is_ready else 503, headers={"Cache-Control": "no-store"})

    async def _found(self) -> dict[str, str]:
        for name, check in self._checks.items():
            if name not in self._asked:
                self._asked[name] = asyncio.ensure_future(check())
        if self._asked:
            await asyncio.wait(list(self._asked.values()), timeout=CHECK_S)
        return {name: self._state(name) for name in self._checks}

    def _state(self, name: str) -> str:
        asked = self._asked.get(name)
        if asked is None or not asked.done():
            return f"no answer within {CHECK_S:g} s"
        del self._asked[name]
        if asked.cancelled() or asked.exception():
            log.warning("readiness: %s failed", name, exc_info=None if asked.cancelled() else asked.exception())
            return "failed"  # why stands in the log; outside it would tell addresses and names
        return "ok"


async def _alive(request: Request) -> Response:
    return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})


async def _counted(request: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
