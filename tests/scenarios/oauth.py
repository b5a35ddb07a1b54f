"""Scenarios of OAuth clients."""

from tests.scenarios.scenario import Input, mutation
from tests.scenarios.stage import LAMP, Stage

GIVEN = {"productId": LAMP, "name": "Porch", "redirectUri": "https://porch.example/back"}


async def _open(stage: Stage) -> None:
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
