"""The floor: the same answer by hand, asyncpg's rows straight into JSON behind uvicorn, without GraphQL."""

import hashlib
import json
import os
from typing import Any

import asyncpg
import msgspec
import uvicorn

AT_HAND = """SELECT p.id FROM token t JOIN member m ON m.user_id = t.user_id JOIN product p ON p.organization_id = m.organization_id
             WHERE t.digest = $1 AND t.revoked_at IS NULL AND p.number = $2"""
PAGE = """SELECT device_id, name, serial_number, platform, state, development, claimed_at, reported_product_id, firmware_version,
                 created_at, owner_id
          FROM device WHERE product_id = $1 AND device_id > $2 ORDER BY device_id LIMIT $3"""
FIRMWARES = "SELECT version, title FROM firmware WHERE product_id = $1 AND version = ANY($2)"
CUSTOMERS = "SELECT id, username FROM customer WHERE id = ANY($1)"
_pool: Any = None


async def _nothing(_connection: object) -> None:
    pass


async def app(scope: Any, receive: Any, send: Any) -> None:
    global _pool
    if scope["type"] == "lifespan":
        await receive()
        _pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=10, reset=_nothing)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return
    asked = json.loads((await receive())["body"])["variables"]
    token = next(value for name, value in scope["headers"] if name == b"authorization")[len(b"Bearer ") :]
    body = msgspec.json.encode(await _page(hashlib.sha256(token).hexdigest(), asked))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _page(digest: str, asked: Any) -> Any:
    async with _pool.acquire() as connection:
        product = await connection.fetchval(AT_HAND, digest, asked["product"])
        found = await connection.fetch(PAGE, product, asked.get("after") or "", asked["first"] + 1)
        rows = found[: asked["first"]]
        titles = {v: {"version": v, "title": t} for v, t in await connection.fetch(FIRMWARES, product, list({r[8] for r in rows}))}
        names = {i: {"username": n} for i, n in await connection.fetch(CUSTOMERS, list({r[10] for r in rows}))}
    nodes = [
        {
            "deviceId": r[0],
            "name": r[1],
            "serialNumber": r[2],
            "platform": r[3],
            "state": r[4],
            "development": r[5],
            "claimedAt": r[6],
            "reportedProductId": r[7],
            "firmwareVersion": r[8],
            "createdAt": r[9],
            "firmware": titles.get(r[8]),
            "owner": names.get(r[10]),
        }
        for r in rows
    ]
    page = {"hasNextPage": len(found) > len(rows), "endCursor": rows[-1][0] if rows else None}
    return {"data": {"product": {"devices": {"nodes": nodes, "pageInfo": page}}}}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)
