"""Files of a multipart request, as doors take them."""

from collections.abc import AsyncIterator
from typing import Protocol

from errors import InvalidInput

CHUNK_BYTES = 64 * 1024


class Sent(Protocol):
    """A file as the transport hands it over; a large one lies on disk."""

    filename: str | None

    async def read(self, size: int = -1) -> bytes: ...


def chunks_of(file: Sent, *, field: str = "file") -> AsyncIterator[bytes]:
    """Its bytes. Raises InvalidInput for what came in place of a file, in a request that was not multipart."""
    if not hasattr(file, "read"):
        raise InvalidInput("Send the file in a multipart request; see the GraphQL multipart request specification.", path=(field,))
    return _chunks(file)


async def _chunks(file: Sent) -> AsyncIterator[bytes]:
    while chunk := await file.read(CHUNK_BYTES):
        yield chunk
