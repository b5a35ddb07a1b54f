"""Imports as tests make them: a file's bytes in, the answer and its verdicts out."""

import io
from typing import Any

from starlette.datastructures import UploadFile

from tests.house import HouseTester

IMPORT = "import { id state total processed added undoneAt rejected { totalCount nodes { line text deviceId verdict } } }"
ROWS = "query ($id: ID!) { node(id: $id) { ... on Import { rows(first: 100) { totalCount nodes { line text deviceId verdict } } } } }"


def ids(count: int, start: int = 1) -> list[str]:
    return [f"{number:024x}" for number in range(start, start + count)]


async def imported(tester: HouseTester, token: str, lines: bytes, number: int = 1000, **options: Any) -> Any:
    file = UploadFile(io.BytesIO(lines))
    payload = await tester.do("importDevices", IMPORT, token, productId=number, file=file, **options)
    assert payload["errors"] == []
    return payload["import"]


async def verdicts(tester: HouseTester, token: str, id: str) -> list[tuple[int, str]]:
    rows = (await tester.ask(ROWS, token, id=id))["node"]["rows"]["nodes"]
    return [(row["line"], row["verdict"]) for row in rows]
