"""Scenarios of OAuth clients."""

from models.account import Token
from models.product import AuthMethod
from tests.scenarios.scenario import Input, mutation
from tests.scenarios.stage import LAMP, Stage

GIVEN = {"productId": LAMP, "name": "Porch", "redirectUri": "https://porch.example/back"}


async def _open(stage: Stage) -> None:
    """The cast's customer came by the token in this way too: else it would end here."""
    await Token.filter(customer_id__not_isnull=True).update(auth_method=AuthMethod.OAUTH)
    await stage.owner("answerQuestions", "clientMutationId", productId=LAMP, answers=[{"key": "auth_method", "answer": "OAUTH"}])


async def _a_client(stage: Stage) -> Input:
    await _open(stage)
    return {"clientId": (await stage.owner("createOAuthClient", "clientId", **GIVEN))["clientId"]}


@mutation("createOAuthClient")
async def create_oauth_client(stage: Stage) -> Input:
    await _open(stage)
    return GIVEN


@mutation("rotateOAuthClientSecret")
async def rotate_oauth_client_secret(stage: Stage) -> Input:
    return await _a_client(stage)


@mutation("deleteOAuthClient")
async def delete_oauth_client(stage: Stage) -> Input:
    return await _a_client(stage)
