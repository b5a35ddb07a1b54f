"""Scenarios of OAuth clients."""

from datetime import UTC, datetime

from models.account import Token
from models.customer import Customer
from models.oauth import OAuthClient, OAuthConsent
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


@mutation("updateOAuthClient")
async def update_oauth_client(stage: Stage) -> Input:
    return {**await _a_client(stage), "redirectUris": ["https://porch.example/back", "https://porch.example/too"]}


@mutation("rotateOAuthClientSecret")
async def rotate_oauth_client_secret(stage: Stage) -> Input:
    return await _a_client(stage)


@mutation("endConsent")
async def end_consent(stage: Stage) -> Input:
    given = await _a_client(stage)
    lee = await stage.owner("createCustomer", "customer { id }", productId=LAMP, username="lee")
    client, customer = await OAuthClient.get(client_id=given["clientId"]), await Customer.get(username="lee")
    await OAuthConsent.create(client=client, customer=customer, scopes=["devices:read"], created_at=datetime.now(UTC))
    return {"customerId": lee["customer"]["id"], **given}


@mutation("deleteOAuthClient")
async def delete_oauth_client(stage: Stage) -> Input:
    return await _a_client(stage)
