"""What viewers were found to be allowed, kept for just under a second: however many streams depend on it, it is asked once."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from auth.viewer import Viewer
from models.transaction import detached

Found = TypeVar("Found")

GOOD_FOR_S = 0.8
KEPT = 1000  # findings; beyond it those that are no longer good are forgotten


class Authorities(Generic[Found]):
    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[float, asyncio.Task[Found]]] = {}

    async def find(self, key: Hashable, ask: Callable[[], Awaitable[Found]], *, within_s: float = GOOD_FOR_S) -> Found:
        """What `ask` finds or raises, or found for the same key within that time."""
        now = asyncio.get_running_loop().time()
        asked_at, finding = self._found.get(key, (0.0, None))
        if finding is None or now - asked_at >= within_s:
            if len(self._found) >= KEPT:
                self._found = {each: known for each, known in self._found.items() if now - known[0] < GOOD_FOR_S}
            finding = detached(_ask(ask), name="find out what a viewer may")
            self._found[key] = now, finding
        return await asyncio.shield(finding)  # one who goes must not take the answer from the others


async def _ask(ask: Callable[[], Awaitable[Found]]) -> Found:
    return await ask()


def authority_of(viewer: Viewer) -> Hashable:
    """Everything of a viewer that an answer to them may depend on; who stands alike is answered alike.

    Who they are is part of it: what is a person's own, they alone see.
    """
    seats = tuple(sorted((organization_id, str(member.role)) for organization_id, member in viewer.members.items()))
    roles, granted = frozenset(viewer.product_roles.items()), frozenset(viewer.granted.items())
    scopes = None if viewer.token_scopes is None else tuple(sorted(viewer.token_scopes))
    return (viewer.identity, viewer.bound_product_id, seats, roles, scopes, viewer.closed, granted)
