"""Keeps firmware under the SHA-256 of its bytes, and import files until they are read, in a folder or an S3 bucket."""

import asyncio
import hashlib
import os
import re
import secrets
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Literal
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from errors import BinaryInvalid
from settings import Settings, SettingsRefused

CHUNK_BYTES = 64 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NETWORK_TIMEOUT_S = 30.0
_PING_TIMEOUT_S = 3.0
_TRUSTED_S = 600.0
_TRUSTED_MAX = 1024
_SHELF = "firmware"
_IMPORTS = "imports"
_IMPORT_NAME = re.compile(r"[0-9a-f]{32}")
# A browser that is sent to the bucket must save the file, never show it.
_ATTRIBUTES = {"Content-Type": "application/octet-stream", "Content-Disposition": "attachment"}


class BlobMissing(Exception):
    """No bytes are kept under this SHA-256."""


class BlobsUnreachable(Exception):
    """The folder can't be written or the bucket does not answer; the message says which."""


@dataclass(frozen=True, slots=True)
class Stored:
    """`size` is in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Incoming:
    """Bytes received and hashed under a temporary name on this machine, not kept yet."""

    sha256: str
    size: int
    path: Path

    async def content(self) -> bytes:
        """All of it, for the gate: at most the cap it was received under."""
        return await asyncio.to_thread(self.path.read_bytes)


class Blobs:
    """Content-addressed files. The same bytes are kept once; names from outside never reach a path or a key.

    Every method that takes a `sha256` raises ValueError unless it is 64 lower-case hex digits.
    """

    def __init__(self, store: LocalStore | S3Store, spool: Path, folder: Path | None, *, presigned: bool = False) -> None:
        self._store = store
        self._presigned = presigned
        self._spool = spool  # temporary files; on the folder's own disk, so that keeping one is a rename
        self._folder = folder  # None for a bucket
        self._found_sound: dict[str, tuple[object, float]] = {}

    @asynccontextmanager
    async def receive(self, chunks: AsyncIterable[bytes], cap: int) -> AsyncIterator[Incoming]:
        """Stream `chunks` to a temporary file that is gone when the block ends, unless `keep` took it.

        Reading stops with the first chunk that passes `cap` bytes. Raises BinaryInvalid (TOO_LARGE).
        """
        file = await asyncio.to_thread(_temporary_file, self._spool)
        path = Path(file.name)
        try:
            with file:
                sha256, size = await _copy(chunks, file, cap)
            yield Incoming(sha256, size, path)
        finally:
            path.unlink(missing_ok=True)

    async def keep(self, incoming: Incoming) -> Stored:
        """Put received bytes under their hash, whole or not at all. Keeping the same bytes again heals a damaged file."""
        await self._put(_key(incoming.sha256), incoming.path)
        return Stored(incoming.sha256, incoming.size)

    async def size(self, sha256: str) -> int:
        """In bytes. Raises BlobMissing."""
        try:
            return (await self._store.head_async(_key(sha256)))["size"]
        except FileNotFoundError:
            raise BlobMissing(sha256) from None

    async def read_range(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to but not including `end`, in chunks of 64 KiB. Raises BlobMissing at the first one."""
        key = _key(sha256)
        if not 0 <= start <= end:
            raise ValueError(f"{start}-{end} is no range")
        if start == end:
            return
        try:
            result = await self._store.get_async(key, options={"range": (start, end)})
        except FileNotFoundError:
            raise BlobMissing(sha256) from None
        async for piece in result.stream(min_chunk_size=CHUNK_BYTES):
            view = memoryview(piece)
            for at in range(0, len(view), CHUNK_BYTES):
                yield bytes(view[at : at + CHUNK_BYTES])

    async def verify(self, sha256: str) -> bool:
        """Whether the bytes are there and still have this hash: asked before serving begins."""
        digest = hashlib.sha256()
        try:
            async for chunk in self.read_range(sha256, 0, await self.size(sha256)):
                digest.update(chunk)
        except BlobMissing:
            return False
        return digest.hexdigest() == sha256

    async def is_sound(self, sha256: str) -> bool:
        """Like verify, but bytes found good are not read again while the store shows the same file, for ten minutes at most."""
        try:
            kept = await self._store.head_async(_key(sha256))
        except FileNotFoundError:
            return False
        mark, now = (kept["last_modified"], kept["size"], kept["e_tag"]), time.monotonic()
        seen = self._found_sound.get(sha256)
        if seen is None or seen[0] != mark or now - seen[1] > _TRUSTED_S:
            if not await self.verify(sha256):
                return False
            while len(self._found_sound) >= _TRUSTED_MAX:
                del self._found_sound[next(iter(self._found_sound))]
            self._found_sound[sha256] = (mark, now)
        return True

    async def delete(self, sha256: str) -> None:
        """Forget the bytes; nothing happens if they are not there. The caller knows that no firmware uses them any more."""
        with suppress(FileNotFoundError):
            await self._store.delete_async(_key(sha256))

    @property
    def presigns(self) -> bool:
        """Whether downloads are to be sent on to the bucket."""
        return self._presigned and isinstance(self._store, S3Store)

    async def presign(self, sha256: str, method: Literal["GET", "HEAD"], expires_s: int) -> str:
        """A URL of the bucket that answers this one method until it expires. Raises ValueError for a store that has none."""
        if not isinstance(self._store, S3Store):
            raise ValueError("A folder has no URLs.")
        return await obstore.sign_async(self._store, method, _key(sha256), timedelta(seconds=expires_s))

    async def kept(self, older_than_s: float) -> AsyncIterator[str]:
        """Hashes kept for longer than this; those no firmware names were left by an upload that never committed."""
        before = time.time() - older_than_s
        async for page in self._store.list(_SHELF):
            for found in page:
                name = found["path"].rsplit("/", 1)[-1]
                if _SHA256.fullmatch(name) and found["last_modified"].timestamp() < before:
                    yield name

    # ── import files: under a name of ours, where every process finds them ──
    async def shelve(self, incoming: Incoming) -> str:
        """Keep received bytes until `unshelve`; the name they are found under from now on."""
        name = secrets.token_hex(16)
        await self._put(_import_key(name), incoming.path)
        return name

    @asynccontextmanager
    async def at_hand(self, name: str) -> AsyncIterator[Path]:
        """The shelved bytes as a file of this machine, while the block lasts; not to be changed. Raises BlobMissing."""
        key = _import_key(name)
        if self._folder is not None:
            if not await asyncio.to_thread((self._folder / key).exists):
                raise BlobMissing(name)
            yield self._folder / key
            return
        file = await asyncio.to_thread(_temporary_file, self._spool)
        try:
            with file:
                try:
                    result = await self._store.get_async(key)
                except FileNotFoundError:
                    raise BlobMissing(name) from None
                async for piece in result.stream(min_chunk_size=CHUNK_BYTES):
                    await asyncio.to_thread(file.write, piece)
            yield Path(file.name)
        finally:
            Path(file.name).unlink(missing_ok=True)

    async def unshelve(self, name: str) -> None:
        """Forget shelved bytes; nothing happens if they are not there."""
        with suppress(FileNotFoundError):
            await self._store.delete_async(_import_key(name))

    async def shelved(self, before: datetime) -> AsyncIterator[str]:
        """The names of bytes that were shelved before this time."""
        async for page in self._store.list(_IMPORTS):
            for found in page:
                name = found["path"].rsplit("/", 1)[-1]
                if _IMPORT_NAME.fullmatch(name) and found["last_modified"] < before:
                    yield name

    async def sweep(self, older_than_s: float) -> int:
        """Remove temporary files that a stopped process left behind; how many there were."""
        return await asyncio.to_thread(_remove_older, self._spool, time.time() - older_than_s)

    async def ping(self) -> None:
        """Raises BlobsUnreachable unless bytes can be kept and found."""
        try:
            async with asyncio.timeout(_PING_TIMEOUT_S):
                await asyncio.to_thread(lambda: _temporary_file(self._spool, delete=True).close())
                async for _ in self._store.list(_SHELF, chunk_size=1):
                    break
        except (OSError, BaseError, TimeoutError) as problem:
            where = self._folder or "the bucket of BLOB_URL"
            raise BlobsUnreachable(f"Firmware files can't be kept in {where}: {type(problem).__name__}") from problem

    async def _put(self, key: str, path: Path) -> None:
        """Whole or not at all; on a folder the file itself moves there."""
        if self._folder is not None:
            await asyncio.to_thread(_move_for_good, path, self._folder / key)
        else:
            await self._store.put_async(key, path, attributes=_ATTRIBUTES)


def open_blobs(settings: Settings) -> Blobs:
    """The store that `settings.blob_url` names: empty is `data_dir/blobs`, or s3://bucket/prefix?endpoint=…&region=….

    Credentials of S3 come the way all its clients take them: AWS_ACCESS_KEY_ID and so on, or the machine's role.
    Raises SettingsRefused.
    """
    if not settings.blob_url:
        folder = settings.data_dir / "blobs"
        for shelf in (_SHELF, _IMPORTS):
            _made(folder / shelf)
        return Blobs(LocalStore(folder), _made(folder / "incoming"), folder)
    parts = urlsplit(settings.blob_url)
    if parts.scheme != "s3" or not parts.netloc:
        raise SettingsRefused("BLOB_URL must be s3://bucket or s3://bucket/prefix, or unset for a folder in FLOTILLA_DATA_DIR.")
    bucket = _bucket(parts.netloc, parts.path.strip("/"), parse_qs(parts.query))
    return Blobs(bucket, _made(settings.data_dir / "incoming"), None, presigned=settings.blob_presigned)


def _bucket(name: str, prefix: str, options: dict[str, list[str]]) -> S3Store:
    unknown = options.keys() - {"endpoint", "region"}
    if unknown:
        raise SettingsRefused(f"BLOB_URL knows endpoint and region, not {', '.join(sorted(unknown))}.")
    endpoint = options.get("endpoint", [""])[0]
    return S3Store(
        name,
        prefix=prefix or None,
        config={
            **({"endpoint": endpoint} if endpoint else {}),
            **({"region": options["region"][0]} if "region" in options else {}),
        },
        client_options={
            "timeout": timedelta(seconds=_NETWORK_TIMEOUT_S),
            "connect_timeout": timedelta(seconds=5),
            "allow_http": endpoint.startswith("http://"),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=_NETWORK_TIMEOUT_S)},
    )


def _key(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise ValueError("Not a SHA-256 in lower-case hex.")
    return f"{_SHELF}/{sha256}"


def _import_key(name: str) -> str:
    if not _IMPORT_NAME.fullmatch(name):
        raise ValueError("Not a name that was given by shelve().")
    return f"{_IMPORTS}/{name}"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _temporary_file(spool: Path, *, delete: bool = False) -> IO[bytes]:
    return tempfile.NamedTemporaryFile(dir=spool, prefix="upload-", delete=delete)


async def _copy(chunks: AsyncIterable[bytes], file: IO[bytes], cap: int) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    async for chunk in chunks:
        size += len(chunk)
        if size > cap:
            raise BinaryInvalid(f"The file has more than the {cap} bytes that are taken here. Make it smaller.", reason="TOO_LARGE")
        digest.update(chunk)
        await asyncio.to_thread(file.write, chunk)
    return digest.hexdigest(), size


def _move_for_good(path: Path, target: Path) -> None:
    """A rename that outlives a power cut: the bytes are on the disk before the name, the name before we say so."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _remove_older(spool: Path, before: float) -> int:
    removed = 0
    for path in spool.glob("upload-*"):
        try:
            if path.stat().st_mtime < before:
                path.unlink()
                removed += 1
        except FileNotFoundError:  # its own upload was faster
            continue
    return removed
