"""A device written out frame by frame, for tests of the gateway's socket."""

import asyncio
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway import proofs, protocol
from gateway.session import Limits
from public_keys import public_half
from tests.fake_fleet import FakeFleet
from tests.patience import PATIENCE_S

ID = "55ff6d04498b49aabbccdd01"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
FAST = Limits(rate_per_s=1e6, burst=1_000_000)


def known(*ids) -> FakeFleet:
    fleet = FakeFleet()
    fleet.keys = dict.fromkeys(ids or (ID,), public_half(KEY))
    return fleet


def raw(url, **options):
    return connect(url, subprotocols=[protocol.SUBPROTOCOL], compression=None, ping_interval=None, proxy=None, **options)


async def heard(ws):
    async with asyncio.timeout(PATIENCE_S):
        return json.loads(await ws.recv())


async def say(ws, **word):
    await ws.send(json.dumps(word))


async def greet(ws, id=ID, key=KEY, **more):
    challenge = await heard(ws)
    await say(ws, type="hello", deviceId=id, signature=proofs.signature(key, challenge["nonce"], id), **more)
    return await heard(ws)


async def close_code(ws, within_s=PATIENCE_S):
    with pytest.raises(ConnectionClosed) as closed:
        async with asyncio.timeout(within_s):
            while True:
                await ws.recv()
    return closed.value.rcvd.code if closed.value.rcvd else None
