"""Groups as walls: what somebody was granted in a product, and which groups that reaches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.sql import rows


@dataclass(frozen=True, slots=True)
class Granted:
    """The groups of one product that were granted, with all below them."""

    organization_id: int
    groups: frozenset[int]


_REACHED = """
    SELECT inside.group_id AS id, top.product_id, product.organization_id
      FROM group_grant
      JOIN device_group AS top ON top.id = group_grant.group_id
      JOIN product ON product.id = top.product_id
      JOIN group_above AS inside ON inside.above_id = top.id
     WHERE group_grant.{who}_id = ANY($1)"""


async def granted(who: str, ids: Sequence[int]) -> Mapping[int, Granted]:
    """By product, what was granted to these; `who` is member, customer or api_user."""
    found: dict[int, tuple[int, set[int]]] = {}
    for row in await rows(_REACHED.format(who=who), [list(ids)]) if ids else []:
        found.setdefault(row["product_id"], (row["organization_id"], set()))[1].add(row["id"])
    return {product: Granted(team, frozenset(groups)) for product, (team, groups) in found.items()}
