"""Scenarios of products and their configuration."""

from fleet.products.questionnaire import SECTIONS
from tests.scenarios.scenario import Input, mutation, reading
from tests.scenarios.stage import ACME, LAMP, Stage


@mutation("createProduct")
async def create_product(stage: Stage) -> Input:
    return {"organization": ACME, "name": "Lantern", "platform": "PHOTON"}


@mutation("updateProduct")
async def update_product(stage: Stage) -> Input:
    return {"productId": LAMP, "name": "Lantern"}


@mutation("answerQuestions")
async def answer_questions(stage: Stage) -> Input:
    return {"productId": LAMP, "answers": [{"key": "purpose", "answer": "Light."}]}


@mutation("startManufacturing")
async def start_manufacturing(stage: Stage) -> Input:
    questions = [question for section in SECTIONS for question in section.questions]
    answers = [{"key": each.key, "answer": each.options[0] if each.options else "12"} for each in questions]
    await stage.owner("answerQuestions", "clientMutationId", productId=LAMP, answers=answers)
    return {"productId": LAMP}


@mutation("rotateProvisioningKey")
async def rotate_provisioning_key(stage: Stage) -> Input:
    return {"productId": LAMP}


@reading("product", "query ($number: Int) { found: product(productId: $number) { name fleet { total } groups { path } } }")
async def product(stage: Stage) -> Input:
    return {"number": LAMP}
