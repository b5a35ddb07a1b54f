"""Which of many tokens still stand: asked for all open connections at once, so that what they cost does not grow with them."""

from collections.abc import Collection

from models.sql import rows


async def living_seats(token_ids: Collection[int]) -> dict[int, frozenset[int]]:
    """Of these tokens those that nobody has revoked, each with the organizations in which its person has a seat now."""
    found = await rows(
        "SELECT token.id, member.organization_id FROM token LEFT JOIN member ON member.user_id = token.user_id"
        " WHERE token.id = ANY($1) AND token.revoked_at IS NULL",
        [sorted(token_ids)],
    )
    seats: dict[int, set[int]] = {}
    for row in found:
        seats.setdefault(row["id"], set()).update({row["organization_id"]} - {None})
    return {token: frozenset(teams) for token, teams in seats.items()}
