"""The audit: one entry for every act that changed something, written in the act's own transaction."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from tortoise.models import Model

from auth.viewer import Viewer
from models.operations import AuditEntry

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"


async def record(by: Viewer, action: str, subject: str, *, organization_id: int | None, **detail: Json) -> None:
    """Write one entry: who did what to what, from where.

    `action` is noun.verb_done ("firmware.released"); `subject` is the natural key ("device:55ff…", "product:1094").
    `detail` holds before and after, lists included, and never a secret. Call it inside transaction().
    """
    await AuditEntry.create(
        organization_id=organization_id,
        at=datetime.now(UTC),
        actor=by.actor,
        action=action,
        subject=subject[:120],
        detail=detail,
        address=by.address,
    )


def differing(row: Model, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the row holds otherwise than is wanted of it, and what it is to hold instead: `before` and `after` of an entry."""
    before = {name: getattr(row, name) for name, value in wanted.items() if getattr(row, name) != value}
    return before, {name: wanted[name] for name in before}
