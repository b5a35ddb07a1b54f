"""A file over HTTP, whole or one range: what a device needs to go on where it was cut off."""

import hashlib
import random

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from errors import Forbidden, NotFound
from transport.downloads import CHUNK, Download, Downloads

CONTENT = random.Random(1).randbytes(200_001)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


async def read_range(start: int, end: int):
    for offset in range(start, end, 150_000):
        yield CONTENT[offset : min(end, offset + 150_000)]


async def location(method: str) -> str:
    return f"https://bucket.test/{SHA256}?signed-for={method}"


async def resolve(request) -> Download:
    match request.path_params["name"]:
        case "none":
            raise NotFound("There is no such firmware.")
        case "late":
            raise Forbidden("This address has expired. Ask for a new one.")
        case "empty":
            return Download(0, hashlib.sha256(b"").hexdigest(), read_range)
        case "elsewhere":
            return Download(len(CONTENT), SHA256, read_range, location=location)
    return Download(len(CONTENT), SHA256, read_range, "thermostat 1.bin")


@pytest.fixture
async def http():
    app = Starlette(routes=[Route("/firmware/{name}", Downloads(resolve).answer, methods=["GET", "HEAD", "POST", "DELETE"])])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_the_whole_file_comes_with_a_strong_tag_as_an_attachment(http):
    answer = await http.get("/firmware/1")

    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["etag"] == f'"{SHA256}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == "200001"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''thermostat%201.bin"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 200_001),
        ("bytes=100-199", 100, 200),
        ("bytes=65536-", 65536, 200_001),
        ("bytes=200000-999999", 200_000, 200_001),
        ("bytes=-5", 199_996, 200_001),
        ("bytes=-999999", 0, 200_001),
    ],
)
async def test_one_range_is_206(http, asked, start, end):
    answer = await http.get("/firmware/1", headers={"range": asked})

    assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/200001"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=200001-", "bytes=999999-1000000", "bytes=-0"])
async def test_a_range_beyond_the_file_is_416(http, asked):
    answer = await http.get("/firmware/1", headers={"range": asked})

    assert (answer.status_code, answer.content) == (416, b"")
    assert answer.headers["content-range"] == "bytes */200001"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-9", "bytes=5-1", "bytes=x-", "lines=0-1", "bytes=-", "bytes=" + "9" * 30 + "-"])
async def test_what_is_not_one_sound_range_gets_the_whole(http, asked):
    assert (await http.get("/firmware/1", headers={"range": asked})).status_code == 200


async def test_if_range_guards_against_another_file(http):
    same = await http.get("/firmware/1", headers={"range": "bytes=5-", "if-range": f'"{SHA256}"'})
    other = await http.get("/firmware/1", headers={"range": "bytes=5-", "if-range": '"other"'})

    assert (same.status_code, other.status_code) == (206, 200)


async def test_head_tells_the_size_and_sends_nothing(http):
    answer = await http.head("/firmware/1", headers={"range": "bytes=5-9"})

    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "200001")


async def test_an_empty_file_is_200_and_has_no_ranges(http):
    assert (await http.get("/firmware/empty")).status_code == 200
    assert (await http.get("/firmware/empty", headers={"range": "bytes=0-"})).status_code == 416


async def test_what_is_not_there_is_404_and_what_is_over_403_and_other_methods_405(http):
    statuses = [(await http.get("/firmware/none")).status_code, (await http.get("/firmware/late")).status_code]
    posted = await http.post("/firmware/1")

    assert statuses == [404, 403]
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")


async def test_pieces_are_at_most_64_kib():
    from transport.downloads import _chunks

    sizes = [len(piece) async for piece in _chunks(Download(len(CONTENT), SHA256, read_range), 0, len(CONTENT))]

    assert max(sizes) == CHUNK and sum(sizes) == len(CONTENT)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_lies_elsewhere_is_sent_on_with_an_address_for_this_method_that_nobody_keeps(http, method):
    answer = await http.request(method, "/firmware/elsewhere", headers={"range": "bytes=5-"})

    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["location"] == f"https://bucket.test/{SHA256}?signed-for={method}"
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")


async def test_what_needs_no_bytes_is_answered_here(http):
    known = await http.get("/firmware/elsewhere", headers={"if-none-match": f'"{SHA256}"'})
    beyond = await http.get("/firmware/elsewhere", headers={"range": "bytes=200001-"})

    assert (known.status_code, beyond.status_code, (await http.post("/firmware/elsewhere")).status_code) == (304, 416, 405)
