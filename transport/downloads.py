"""Bytes of a stored file over HTTP, whole or one range at a time, so that a device can go on where its connection was cut."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from errors import CallerError, NotFound, RateLimited
from transport.rates import when_to_come_back

CHUNK = 64 << 10  # bytes; what a cut costs at most
_SENT_ON = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}  # the URL is a credential
_RANGE = re.compile(r"bytes=(?:(\d{1,19})-(\d{0,19})|-(\d{1,19}))", re.ASCII)

Method: TypeAlias = Literal["GET", "HEAD"]


@dataclass(frozen=True, slots=True)
class Download:
    """One file: its size in bytes, the SHA-256 of its bytes in hex, and how to read those from `start` up to, not including, `end`."""

    size: int
    sha256: str
    read_range: Callable[[int, int], AsyncIterator[bytes]]
    file_name: str = "firmware.bin"
    location: Callable[[Method], Awaitable[str]] | None = None  # where its bytes are to be fetched from, by the method of the request


class Downloads:
    """An ASGI endpoint for GET and HEAD. `resolve` finds the file for a request and raises a CallerError for one that may not have it."""

    def __init__(self, resolve: Callable[[Request], Awaitable[Download]]) -> None:
        self._resolve = resolve

    async def answer(self, request: Request) -> Response:
        """Route this. 200 and 206 carry a strong ETag that is the SHA-256; several ranges at once are answered with the whole.

        A file that has a `location` is answered 307, once its bytes are known to be sound.
        """
        if request.method not in ("GET", "HEAD"):
            return _refused(405, "METHOD_NOT_ALLOWED", "Downloads take GET and HEAD.", {"Allow": "GET, HEAD"})
        try:
            file = await self._resolve(request)
        except CallerError as error:
            headers = when_to_come_back(error) if isinstance(error, RateLimited) else {}
            return _refused(_status(error), error.code, error.message, headers)
        headers = _headers(file)
        if _names(request.headers.get("if-none-match", ""), file):
            return Response(status_code=304, headers=headers)
        part = _part(request, file)
        start, end = part or (0, file.size)
        if part and start >= end:
            return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{file.size}"})
        if file.location is not None:
            return RedirectResponse(await file.location(_method(request)), 307, headers=_SENT_ON)
        if part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        headers["Content-Length"] = str(end - start)
        status = 206 if part else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type="application/octet-stream")
        return StreamingResponse(_chunks(file, start, end), status, headers, "application/octet-stream")


def _method(request: Request) -> Method:
    return "HEAD" if request.method == "HEAD" else "GET"


def _headers(file: Download) -> dict[str, str]:
    return {
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.sha256}"',
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.file_name, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-transform",
    }


def _part(request: Request, file: Download) -> tuple[int, int] | None:
    """The range asked for as (start, end), empty when the file has none of it; None for the whole file.

    Ranges are for GET alone, and only while `If-Range` still names this file.
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    condition = request.headers.get("if-range", f'"{file.sha256}"')
    if match is None or request.method != "GET" or condition != f'"{file.sha256}"':
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return max(0, file.size - int(suffix)), file.size
    if last and int(last) < int(first):
        return None  # not a range at all, says RFC 9110
    return int(first), min(file.size, int(last) + 1) if last else file.size


async def _chunks(file: Download, start: int, end: int) -> AsyncIterator[bytes]:
    async for piece in file.read_range(start, end):
        for offset in range(0, len(piece), CHUNK):
            yield piece[offset : offset + CHUNK]


def _names(condition: str, file: Download) -> bool:
    return any(tag.strip().removeprefix("W/") in ("*", f'"{file.sha256}"') for tag in condition.split(","))


def _status(error: CallerError) -> int:
    if isinstance(error, NotFound):
        return 404
    return {"UNAUTHENTICATED": 401, "RATE_LIMITED": 429}.get(error.code, 403)


def _refused(status: int, code: str, message: str, headers: dict[str, str]) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers={"Cache-Control": "no-store", **headers})
