"""Bytes are kept under their hash: streamed, cut at the cap, whole or not at all, in a folder and in an S3 bucket."""

import asyncio
import hashlib
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import blobs as blobs_module
from blobs import CHUNK_BYTES, BlobMissing, Blobs, BlobsUnreachable, Stored, open_blobs
from errors import BinaryInvalid
from settings import Settings, SettingsRefused
from tests.s3 import Bucket

ABSENT = hashlib.sha256(b"never kept").hexdigest()
CONTENT = bytes(range(256)) * 1000 + b"end"
CAP = 1 << 20


async def stream(content: bytes, chunk: int = 10_000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), chunk):
        yield content[at : at + chunk]


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    bucket: Bucket | None = request.getfixturevalue("bucket") if request.param == "s3" else None
    return open_blobs(Settings(data_dir=tmp_path, blob_url=bucket.url(tmp_path.name) if bucket else ""))


async def put(blobs: Blobs, chunks: AsyncIterator[bytes], cap: int) -> Stored:
    async with blobs.receive(chunks, cap) as incoming:
        return await blobs.keep(incoming)


async def read(blobs: Blobs, sha256: str) -> bytes:
    return b"".join([chunk async for chunk in blobs.read_range(sha256, 0, await blobs.size(sha256))])


def left_behind(tmp_path: Path) -> list[str]:
    return [path.name for path in tmp_path.rglob("upload-*")]


async def kept(blobs: Blobs) -> list[str]:
    return [sha256 async for sha256 in blobs.kept(-60)]


async def test_bytes_kept_are_found_under_their_hash(blobs: Blobs, tmp_path: Path) -> None:
    stored = await put(blobs, stream(CONTENT), CAP)

    assert (stored.sha256, stored.size) == (hashlib.sha256(CONTENT).hexdigest(), 256_003)
    assert await blobs.size(stored.sha256) == 256_003
    assert await read(blobs, stored.sha256) == CONTENT
    assert await blobs.verify(stored.sha256) is True
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 6 << 20])
async def test_files_of_any_size_are_kept_whole(size: int, blobs: Blobs) -> None:
    content = os.urandom(size)

    stored = await put(blobs, stream(content, 100_000), 6 << 20)

    assert (stored.size, await read(blobs, stored.sha256) == content) == (size, True)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 256_003), (65_535, 65_537), (100_000, 250_001), (256_002, 256_003), (7, 7)])
async def test_a_range_is_read_in_chunks_of_64_kib(start: int, end: int, blobs: Blobs) -> None:
    stored = await put(blobs, stream(CONTENT), CAP)

    chunks = [chunk async for chunk in blobs.read_range(stored.sha256, start, end)]

    assert b"".join(chunks) == CONTENT[start:end]
    assert max(map(len, chunks), default=0) <= CHUNK_BYTES


async def test_the_same_bytes_are_kept_once(blobs: Blobs) -> None:
    first = await put(blobs, stream(CONTENT), CAP)
    second = await put(blobs, stream(CONTENT, 7_777), CAP)

    assert first == second
    assert await kept(blobs) == [first.sha256]


async def test_the_same_bytes_received_at_once_are_kept_whole(blobs: Blobs, tmp_path: Path) -> None:
    stored = await asyncio.gather(*(put(blobs, stream(CONTENT), CAP) for _ in range(8)))

    assert len(set(stored)) == 1
    assert await blobs.verify(stored[0].sha256) is True
    assert left_behind(tmp_path) == []


async def test_a_stream_is_cut_at_the_cap_and_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += CHUNK_BYTES
            yield bytes(CHUNK_BYTES)

    with pytest.raises(BinaryInvalid) as caught:
        await put(blobs, endless(), 1_000_000)

    assert caught.value.reason == "TOO_LARGE"
    assert 1_000_000 < taken <= 1_000_000 + CHUNK_BYTES
    assert left_behind(tmp_path) == []
    assert await kept(blobs) == []


async def test_a_stream_of_exactly_the_cap_is_kept(blobs: Blobs) -> None:
    assert (await put(blobs, stream(CONTENT), len(CONTENT))).size == len(CONTENT)


async def test_what_the_gate_refuses_is_never_kept(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(BinaryInvalid):
        async with blobs.receive(stream(CONTENT), CAP) as incoming:
            assert await incoming.content() == CONTENT
            raise BinaryInvalid("refused by the gate", reason="BAD_CRC")

    assert left_behind(tmp_path) == []
    assert await kept(blobs) == []


async def test_a_stream_that_breaks_off_or_is_cancelled_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT
        raise ConnectionResetError

    async def stalled() -> AsyncIterator[bytes]:
        yield CONTENT
        await asyncio.sleep(60)

    with pytest.raises(ConnectionResetError):
        await put(blobs, broken(), CAP)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await put(blobs, stalled(), CAP)

    assert left_behind(tmp_path) == []
    assert await kept(blobs) == []


async def test_deleted_bytes_are_missing_and_deleting_twice_is_no_error(blobs: Blobs) -> None:
    stored = await put(blobs, stream(CONTENT), CAP)

    await blobs.delete(stored.sha256)
    await blobs.delete(stored.sha256)

    assert await blobs.verify(stored.sha256) is False
    assert await kept(blobs) == []


async def test_missing_bytes_are_told_by_every_reader(blobs: Blobs) -> None:
    with pytest.raises(BlobMissing):
        await blobs.size(ABSENT)
    with pytest.raises(BlobMissing):
        await anext(blobs.read_range(ABSENT, 0, 10))
    assert await blobs.verify(ABSENT) is False


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "/" + "a" * 63, "a" * 65])
async def test_a_name_that_is_no_hash_never_reaches_the_store(name: str, blobs: Blobs) -> None:
    for use in (blobs.size(name), blobs.delete(name), blobs.verify(name), anext(blobs.read_range(name, 0, 1))):
        with pytest.raises(ValueError, match="SHA-256"):
            await use


async def test_bytes_just_kept_are_too_young_to_be_leftovers(blobs: Blobs) -> None:
    await put(blobs, stream(CONTENT), CAP)

    assert [sha256 async for sha256 in blobs.kept(3600)] == []


async def test_the_sweep_takes_old_temporary_files_and_nothing_else(blobs: Blobs, tmp_path: Path) -> None:
    stored = await put(blobs, stream(CONTENT), CAP)
    spool = next(path for path in tmp_path.rglob("incoming"))
    for name, age_s in [("upload-old", 7200), ("upload-new", 60)]:
        (spool / name).write_bytes(b"left by a stopped process")
        os.utime(spool / name, (time.time() - age_s,) * 2)

    assert await blobs.sweep(3600) == 1

    assert left_behind(tmp_path) == ["upload-new"]
    assert await blobs.verify(stored.sha256) is True


async def test_a_store_in_order_answers_the_ping(blobs: Blobs, tmp_path: Path) -> None:
    await blobs.ping()

    assert left_behind(tmp_path) == []


async def test_a_changed_file_fails_its_verification_and_is_healed_by_keeping_it_again(tmp_path: Path) -> None:
    blobs = open_blobs(Settings(data_dir=tmp_path))
    stored = await put(blobs, stream(CONTENT), CAP)
    file = tmp_path / "blobs" / "firmware" / stored.sha256
    file.write_bytes(CONTENT[:-1] + b"!")

    assert await blobs.verify(stored.sha256) is False
    await put(blobs, stream(CONTENT), CAP)

    assert await blobs.verify(stored.sha256) is True


async def test_a_folder_that_is_gone_fails_the_ping(tmp_path: Path) -> None:
    blobs = open_blobs(Settings(data_dir=tmp_path))
    (tmp_path / "blobs" / "incoming").rmdir()

    with pytest.raises(BlobsUnreachable, match="blobs"):
        await blobs.ping()


async def test_a_bucket_that_does_not_answer_fails_the_ping_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setattr(blobs_module, "_PING_TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        blobs = open_blobs(Settings(data_dir=tmp_path, blob_url=f"s3://fleet?endpoint=http://127.0.0.1:{silent.getsockname()[1]}"))

        began = time.perf_counter()
        with pytest.raises(BlobsUnreachable, match="bucket"):
            await blobs.ping()

    assert time.perf_counter() - began < 30


async def test_a_wrong_secret_fails_the_ping(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-one")

    with pytest.raises(BlobsUnreachable):
        await open_blobs(Settings(data_dir=tmp_path, blob_url=bucket.url("x"))).ping()


@pytest.mark.parametrize("blobs", ["s3"], indirect=True)
async def test_a_bucket_gives_urls_that_anyone_can_fetch_until_they_are_changed(blobs: Blobs) -> None:
    stored = await put(blobs, stream(CONTENT), CAP)

    url = await blobs.presign(stored.sha256, "GET", 60)

    assert await asyncio.to_thread(_fetched, url) == (CONTENT, "application/octet-stream", "attachment")
    with pytest.raises(urllib.error.HTTPError) as caught:
        await asyncio.to_thread(_fetched, url.replace("X-Amz-Expires=60", "X-Amz-Expires=61"))
    assert caught.value.code == 403
    for method in ("HEAD", "PUT", "DELETE"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            await asyncio.to_thread(_fetched, url, method)
        assert caught.value.code == 403
    assert (await asyncio.to_thread(_fetched, await blobs.presign(stored.sha256, "HEAD", 60), "HEAD"))[0] == b""
    assert await blobs.verify(stored.sha256)


def _fetched(url: str, method: str = "GET") -> tuple[bytes, str, str]:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=60) as answer:
        return answer.read(), answer.headers["Content-Type"], answer.headers["Content-Disposition"]


@pytest.mark.parametrize("blobs", ["folder"], indirect=True)
async def test_a_folder_gives_no_urls(blobs: Blobs) -> None:
    assert not blobs.presigns
    with pytest.raises(ValueError, match="folder"):
        await blobs.presign(ABSENT, "GET", 60)


@pytest.mark.parametrize("url", ["/srv/files", "file:///srv/files", "s3://", "gs://bucket", "s3://bucket?endpont=http://x"])
def test_another_kind_of_blob_url_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match="BLOB_URL"):
        open_blobs(Settings(data_dir=tmp_path, blob_url=url))


async def test_shelved_bytes_are_at_hand_for_every_process_until_they_are_forgotten(blobs: Blobs, tmp_path: Path) -> None:
    async with blobs.receive(stream(CONTENT), CAP) as incoming:
        name = await blobs.shelve(incoming)
    now = datetime.now(UTC)

    async with blobs.at_hand(name) as path:
        assert path.read_bytes() == CONTENT
    assert [each async for each in blobs.shelved(now + timedelta(minutes=1))] == [name]
    assert [each async for each in blobs.shelved(now - timedelta(minutes=1))] == []
    assert await kept(blobs) == []
    for _ in range(2):
        await blobs.unshelve(name)
    with pytest.raises(BlobMissing):
        async with blobs.at_hand(name):
            pass
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("name", ["", "../firmware/x", "a" * 31, "A" * 32, "a" * 32 + "\n"])
async def test_a_name_that_shelve_never_gave_never_reaches_the_store(name: str, blobs: Blobs) -> None:
    with pytest.raises(ValueError, match="shelve"):
        await blobs.unshelve(name)
    with pytest.raises(ValueError, match="shelve"):
        async with blobs.at_hand(name):
            pass
