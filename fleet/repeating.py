"""Idempotency keys: of all calls of a viewer with one key, one acts, and every one is answered as that one was."""

import asyncio
import hmac
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from auth.keys import derive_key
from auth.viewer import Viewer
from billing.card_numbers import refuse_card_numbers
from errors import AlreadyExists, CallerError, InvalidInput, RateLimited
from fleet.house import House
from fleet.remembering import input_of, pack, unpack
from models.engine import uninterrupted
from models.operations import KeyedCall
from models.sql import execute
from models.transaction import beginning_with

log = logging.getLogger(__name__)

REMEMBERED = timedelta(hours=24)
LAPSES_AFTER = timedelta(seconds=60)  # a holder that is silent for so long is taken for dead
WAIT_S = 5.0  # for the first call; half of what a request may take
LOOK_EVERY_S = 0.05
KEY_MAX = 200
OF_BILLING = {
    "changePlan",
    "createCardSetup",
    "createOrganization",
    "updateCard",
}  # no text of its input may hold a card number; elsewhere a row of digits is a fair key
PATH = ("idempotencyKey",)

Answer: TypeAlias = Mapping[str, Any]
Act: TypeAlias = Callable[[], Awaitable[Answer | None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it came: the caller's key, which mutation with which input, and who asks."""

    key: str
    mutation: str
    given: Mapping[str, Any]
    by: Viewer


@dataclass(frozen=True, slots=True)
class _Call:
    """What stands for a call in the database, and the holder that this try of it would be."""

    id: str
    fingerprint: str
    holder: str


async def once(asked: Asked, act: Act, *, house: House) -> Answer | None:
    """What `act` answers, or has answered to an earlier call with the same key and input; then `act` is not called.

    A call while the first is at work waits for it. What is answered again are the rows as they are now, and secrets as they were
    shown. A refused call is forgotten, so that it can be repeated. The mark that the call has acted is written in the act's own
    transaction: a server that dies at any moment, or is overtaken after a minute of silence, leads to no second effect.
    Nobody has no keys: the act refuses them.

    Raises InvalidInput for a bad key and for one that was used otherwise, RateLimited when the first call is still at work after
    five seconds, AlreadyExists (reason ANSWER_LOST) when it has acted but died before its answer was kept, NotFound when what it
    made is gone or out of the viewer's sight. Source: graphql-layer, "The schema".
    """
    identity = asked.by.identity
    if identity is None:
        return await act()
    _require_sound(asked)
    call = await _call(asked, identity, house)
    try:
        kept = await _claim_or_wait(call)
    except asyncio.CancelledError:  # perhaps in the middle of a claim
        await uninterrupted(_let_go(call))
        raise
    if kept is not None:
        return await unpack(house.sealer.unseal(kept, context=_context(call)), asked.by)
    return await _act(call, act, house)


async def forget_old(now: datetime) -> int:
    """Forget the calls of more than a day ago; how many there were."""
    return await execute("DELETE FROM keyed_call WHERE claimed_at < $1", [now - REMEMBERED])


# ── the first call ──
async def _act(call: _Call, act: Act, house: House) -> Answer | None:
    try:
        with beginning_with(lambda: _mark(call)):
            answer = await act()
    except CallerError:  # nothing changed
        await uninterrupted(_forget(call))
        raise
    except BaseException:  # it is not known how far it came
        await uninterrupted(_let_go(call))
        raise
    if answer and answer.get("errors"):
        await uninterrupted(_forget(call))
    else:
        await uninterrupted(_keep(call, answer or {}, house))
    return answer


async def _mark(call: _Call) -> None:
    """In the transaction of the act: from its commit on nobody acts again under this key; and an overtaken call does not commit."""
    if not await execute("UPDATE keyed_call SET acted = TRUE WHERE id = $1 AND holder = $2", [call.id, call.holder]):
        raise _still_at_work()


async def _keep(call: _Call, answer: Answer, house: House) -> None:
    """What is done is done: if the answer cannot be kept, whoever asked gets it all the same."""
    try:
        sealed = house.sealer.seal(pack(answer), context=_context(call))
        await execute("UPDATE keyed_call SET answer = $1 WHERE id = $2 AND holder = $3", [sealed, call.id, call.holder])
    except Exception:
        log.exception("The answer of a call with an idempotency key could not be kept.")


async def _forget(call: _Call) -> None:
    await execute("DELETE FROM keyed_call WHERE id = $1 AND holder = $2", [call.id, call.holder])


async def _let_go(call: _Call) -> None:
    """Forget it if it changed nothing; else nobody need wait for its answer any more."""
    await execute("DELETE FROM keyed_call WHERE id = $1 AND holder = $2 AND NOT acted", [call.id, call.holder])
    await execute("UPDATE keyed_call SET lapses_at = $1 WHERE id = $2 AND holder = $3", [datetime.now(UTC), call.id, call.holder])


# ── the others ──
async def _claim_or_wait(call: _Call) -> str | None:
    """None once the key is this call's; else the sealed answer of the one that had it."""
    loop = asyncio.get_running_loop()
    gives_up = loop.time() + WAIT_S
    while not await _claim(call, datetime.now(UTC)):
        kept = await _answer_of(call, datetime.now(UTC))
        if kept is not None:
            return kept
        if loop.time() >= gives_up:
            raise _still_at_work()
        await asyncio.sleep(LOOK_EVERY_S)
    return None


async def _claim(call: _Call, now: datetime) -> bool:
    """Take the key if nobody has it, if it is a day old, or if its holder died before it changed anything: of many, one does."""
    params = [call.id, call.fingerprint, call.holder, now, now + LAPSES_AFTER, now - REMEMBERED]
    return await execute(_CLAIM, params) == 1


_CLAIM = (
    "INSERT INTO keyed_call (id, fingerprint, holder, claimed_at, lapses_at, acted, answer) VALUES ($1, $2, $3, $4, $5, FALSE, NULL)"
    " ON CONFLICT (id) DO UPDATE SET fingerprint = excluded.fingerprint, holder = excluded.holder,"
    "   claimed_at = excluded.claimed_at, lapses_at = excluded.lapses_at, acted = FALSE, answer = NULL"
    "   WHERE keyed_call.claimed_at < $6"
    "      OR (keyed_call.lapses_at < excluded.claimed_at AND NOT keyed_call.acted AND keyed_call.answer IS NULL)"
)


async def _answer_of(call: _Call, now: datetime) -> str | None:
    """The sealed answer; None while there is none."""
    row = await KeyedCall.filter(id=call.id).first()
    if row is None:  # refused just now
        return None
    if row.fingerprint != call.fingerprint:
        raise InvalidInput("This key was used for another call, or by a token that may do other things: take a new one.", path=PATH)
    if row.answer is None and row.acted and row.lapses_at <= now:
        sentence = "The call with this key was done, but its answer was lost: look at what there is, and go on with a new key."
        raise AlreadyExists(sentence, reason="ANSWER_LOST", path=PATH)
    return row.answer


def _still_at_work() -> RateLimited:
    return RateLimited("The first call with this key is still at work: repeat yours in a moment.", retry_after=1, path=PATH)


# ── names ──
async def _call(asked: Asked, owner: str, house: House) -> _Call:
    """What the token may do counts as well: a weaker one of the same person is not answered what a stronger one was."""
    secret = derive_key(house.settings.secret_key, "idempotency")
    what = [asked.mutation, asked.by.token_scopes, await input_of(asked.given)]
    return _Call(_digest(secret, [owner, asked.key]), _digest(secret, what), secrets.token_hex(16))


def _digest(secret: bytes, value: object) -> str:
    return hmac.new(secret, json.dumps(value, sort_keys=True).encode(), "sha256").hexdigest()


def _context(call: _Call) -> str:
    return f"keyed_call/{call.id}/answer"


def _require_sound(asked: Asked) -> None:
    if asked.mutation in OF_BILLING:
        refuse_card_numbers([(PATH[0], asked.key)])
    if not 1 <= len(asked.key) <= KEY_MAX:
        raise InvalidInput(f"A key has 1 to {KEY_MAX} characters.", path=PATH)
