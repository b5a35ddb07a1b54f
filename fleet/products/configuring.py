"""A product's configuration: answering its questions, and the gate before manufacturing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from auth.spelling import require_text
from auth.viewer import Viewer
from billing.access import require_active
from errors import AlreadyExists, InvalidInput, UnansweredQuestions
from fleet.auditing import record
from fleet.products.defining import lock, subject
from fleet.products.questionnaire import QUESTIONS, SECTIONS, ConfigurationSectionName, Question, QuestionEffect
from models.organization import Organization
from models.product import AUTH_METHOD, Answer, AuthMethod, Product
from models.transaction import transaction

ANSWER_MAX = 2000  # characters of a free answer


@dataclass(frozen=True, slots=True)
class Given:
    """What a caller answers to one question."""

    key: str
    answer: str


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question with the product's answer; both null until it has one."""

    key: str
    text: str
    effect: QuestionEffect
    options: tuple[str, ...] | None
    answer: str | None
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class AskedSection:
    name: ConfigurationSectionName
    questions: tuple[AskedQuestion, ...]


@dataclass(frozen=True, slots=True)
class Configuration:
    """All questions with the answers so far."""

    sections: tuple[AskedSection, ...]
    manufacturing_started_at: datetime | None

    @property
    def unanswered(self) -> list[str]:
        return [question.key for section in self.sections for question in section.questions if question.answer is None]

    @property
    def ready_for_manufacturing(self) -> bool:
        return not self.unanswered

    @property
    def auth_method(self) -> AuthMethod | None:
        answers = {question.key: question.answer for section in self.sections for question in section.questions}
        chosen = answers[AUTH_METHOD]
        return AuthMethod(chosen) if chosen else None


async def answer_questions(product: Product, answers: Sequence[Given], *, by: Viewer) -> Product:
    """Answer several questions, all of them or none; an answer may be changed at any time, after the start too.

    Options are taken in any case. Raises InvalidInput for an unknown key, one given twice, or what is no option.
    Source: guide, "Configuring Your Product".
    """
    organization: Organization = product.organization
    by.must("product.configure", organization.id, product.id)
    require_active(organization)
    checked = _checked(answers)
    async with transaction():
        await lock(product)
        stored = await _answers(product)
        changes = {key: answer for key, answer in checked.items() if key not in stored or stored[key].answer != answer}
        if changes:
            await _store(product, changes, datetime.now(UTC))
            before = {key: stored[key].answer if key in stored else None for key in changes}
            action = "product.questions_answered"
            await record(by, action, subject(product), organization_id=organization.id, before=before, after=changes)
    return product


async def start_manufacturing(product: Product, *, by: Viewer) -> Product:
    """Say that devices are being made from now on.

    Raises UnansweredQuestions naming every open question, AlreadyExists when it was started before.
    Source: guide, "Configuring Your Product": "you must answer all questions before you can start manufacturing".
    """
    organization: Organization = product.organization
    by.must("product.manufacture", organization.id, product.id)
    require_active(organization)
    async with transaction():
        await lock(product)
        if product.manufacturing_started_at is not None:
            raise AlreadyExists(f"Manufacturing was started already, on {product.manufacturing_started_at:%Y-%m-%d}.", path=("productId",))
        if unanswered := (await configuration_of(product)).unanswered:
            raise UnansweredQuestions(f"Answer these questions first: {', '.join(unanswered)}.")
        product.manufacturing_started_at = datetime.now(UTC)
        await product.save(update_fields=["manufacturing_started_at"])
        await record(by, "product.manufacturing_started", subject(product), organization_id=organization.id)
    return product


async def answer_of(product: Product, key: str) -> str | None:
    """The product's answer to a question of the questionnaire; None while it is open."""
    assert key in QUESTIONS, key
    answer = await Answer.filter(product_id=product.id, key=key).first()
    return answer.answer if answer else None


async def configuration_of(product: Product) -> Configuration:
    stored = await _answers(product)
    sections = tuple(AskedSection(section.name, tuple(_asked(question, stored) for question in section.questions)) for section in SECTIONS)
    return Configuration(sections, product.manufacturing_started_at)


def _asked(question: Question, stored: dict[str, Answer]) -> AskedQuestion:
    given = stored.get(question.key)
    answer, answered_at = (given.answer, given.answered_at) if given else (None, None)
    return AskedQuestion(question.key, question.text, question.effect, question.options, answer, answered_at)


async def _answers(product: Product) -> dict[str, Answer]:
    return {answer.key: answer for answer in await Answer.filter(product_id=product.id)}


async def _store(product: Product, answers: dict[str, str], now: datetime) -> None:
    # The product's row is held, so nobody answers in between.
    await Answer.filter(product_id=product.id, key__in=list(answers)).delete()
    await Answer.bulk_create(Answer(product_id=product.id, key=key, answer=answer, answered_at=now) for key, answer in answers.items())


def _checked(answers: Sequence[Given]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for at, given in enumerate(answers):
        question, path = QUESTIONS.get(given.key), ("answers", str(at))
        if question is None:
            raise InvalidInput(f"There is no question {given.key[:40]!r}; the keys are {', '.join(QUESTIONS)}.", path=(*path, "key"))
        if given.key in checked:
            raise InvalidInput(f"The question {given.key} is answered twice here.", path=(*path, "key"))
        checked[given.key] = _checked_answer(question, given.answer, (*path, "answer"))
    return checked


def _checked_answer(question: Question, answer: str, path: tuple[str, ...]) -> str:
    if question.options is None:
        return require_text(answer, path=path, max_length=ANSWER_MAX)
    option = answer.strip().upper()
    if option not in question.options:
        raise InvalidInput(f"The answer is one of {', '.join(question.options)}.", path=path)
    return option
