"""Scenarios of people's accounts, their tokens, and machine accounts."""

from models.account import ApiUser, Token
from models.global_ids import global_id
from tests.scenarios.scenario import Input, mutation, reading
from tests.scenarios.stage import ACME, GUEST, MACHINE, PASSWORD, Stage

NEW_PASSWORD = "seven otters juggle at noon"


@mutation("signUp", by=None, in_organization=False)
async def sign_up(stage: Stage) -> Input:
    return {"email": "new@example.com", "password": PASSWORD, "name": "New"}


@mutation("logIn", by=None, in_organization=False)
async def log_in(stage: Stage) -> Input:
    return {"email": "ann@example.com", "password": PASSWORD}


@mutation("logOut", in_organization=False)
async def log_out(stage: Stage) -> Input:
    return {}


@mutation("changePassword", in_organization=False)
async def change_password(stage: Stage) -> Input:
    return {"current": PASSWORD, "new": NEW_PASSWORD}


@mutation("requestPasswordReset", by=None, in_organization=False)
async def request_password_reset(stage: Stage) -> Input:
    return {"email": "ann@example.com"}


@mutation("resetPassword", by=None, in_organization=False)
async def reset_password(stage: Stage) -> Input:
    await stage.tester.do("requestPasswordReset", "clientMutationId", email="ann@example.com")
    letter = (await stage.tester.letters())[-1]
    return {"resetToken": next(line for line in letter.text.splitlines() if line.startswith("flr_")), "new": NEW_PASSWORD}


@mutation("createAccessToken", in_organization=False)
async def create_access_token(stage: Stage) -> Input:
    return {"name": "nightly", "scopes": ["devices:read"]}


@mutation("revokeAccessToken", by=GUEST, in_organization=False)
async def revoke_access_token(stage: Stage) -> Input:
    token = await Token.get(user__email="guest@example.com")
    return {"id": global_id("AccessToken", token.id)}


@mutation("createApiUser")
async def create_api_user(stage: Stage) -> Input:
    return {"organization": ACME, "name": "ci", "scopes": ["devices:read"]}


async def _spare_machine(stage: Stage) -> str:
    """Not one of the cast: it would lose its token."""
    made = await stage.owner("createApiUser", "apiUser { id }", organization=ACME, name="spare", scopes=["devices:read"])
    return str(made["apiUser"]["id"])


@mutation("updateApiUser")
async def update_api_user(stage: Stage) -> Input:
    return {"id": await _spare_machine(stage), "scopes": ["events:read"]}


@mutation("deleteApiUser")
async def delete_api_user(stage: Stage) -> Input:
    return {"id": await _spare_machine(stage)}


@reading("viewer", "{ found: viewer { kind scopes } }")
@reading("server", "{ found: server { name limits scopes { name } } }")
@reading("rateLimit", "{ found: rateLimit { cost } }")
async def nothing(stage: Stage) -> Input:
    return {}


@reading("node", "query ($id: ID!) { found: node(id: $id) { id } }")
async def node(stage: Stage) -> Input:
    return {"id": global_id("ApiUser", (await ApiUser.get(name=MACHINE)).id)}
