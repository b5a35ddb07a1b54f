"""Scenarios of signing keys."""

from models.global_ids import global_id
from models.organization import SigningKey
from tests.scenarios.scenario import Input, mutation
from tests.scenarios.stage import ACME, Stage

PUBLIC_KEY = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"  # of the first test vector of RFC 8032


@mutation("addSigningKey")
async def add_signing_key(stage: Stage) -> Input:
    return {"organization": ACME, "name": "Release", "publicKey": PUBLIC_KEY}


@mutation("removeSigningKey")
async def remove_signing_key(stage: Stage) -> Input:
    await stage.owner("addSigningKey", "clientMutationId", **await add_signing_key(stage))
    return {"id": global_id("SigningKey", (await SigningKey.get()).pk)}
