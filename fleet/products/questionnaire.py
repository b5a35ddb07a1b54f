"""The questions of a product's configuration: what its makers decide before they manufacture."""

from dataclasses import dataclass
from enum import StrEnum

from models.product import AUTH_METHOD, AuthMethod


class ConfigurationSectionName(StrEnum):
    OVERVIEW = "OVERVIEW"
    WORKING_WITH_PLATFORM = "WORKING_WITH_PLATFORM"
    CUSTOMERS = "CUSTOMERS"
    FIRMWARE = "FIRMWARE"


class QuestionEffect(StrEnum):
    BEHAVIOR = "BEHAVIOR"
    ADVICE = "ADVICE"


PRIVATE_BETA = "private_beta"
PROGRAMMING = "programming"

YES, NO = "YES", "NO"
ON_THE_LINE, AT_SETUP = "ON_THE_LINE", "AT_SETUP"


@dataclass(frozen=True, slots=True)
class Question:
    """`options` None takes free text. The key never changes: answers are stored under it."""

    key: str
    text: str
    options: tuple[str, ...] | None = None
    effect: QuestionEffect = QuestionEffect.ADVICE


@dataclass(frozen=True, slots=True)
class Section:
    name: ConfigurationSectionName
    questions: tuple[Question, ...]


# Source: guide, "Configuring Your Product": its four sections and the three questions it highlights, which change what the product
# does; the others make a team think in time of what the guide's later chapters ask of it.
SECTIONS = (
    Section(
        ConfigurationSectionName.OVERVIEW,
        (
            Question("purpose", "What does the product do for the person who owns one?"),
            Question(
                "first_year_volume",
                "How many devices do you expect to make in the first year?",
                options=("UP_TO_100", "UP_TO_1000", "UP_TO_10000", "MORE"),
            ),
            Question("first_shipment", "When do the first devices leave the factory, and who imports their ids before that?"),
        ),
    ),
    Section(
        ConfigurationSectionName.WORKING_WITH_PLATFORM,
        (
            Question(
                AUTH_METHOD,
                "How do customers log in? SIMPLE: with an account kept here. SELF_MANAGED: with an account of yours, and one API user acts"
                " for all of them. TWO_LEGGED: with an account of yours, and your server fetches a token for each of them. OAUTH: they"
                " link an account of yours with one kept here.",
                options=tuple(AuthMethod),
                effect=QuestionEffect.BEHAVIOR,
            ),
            Question(
                "platform_visibility",
                "How much of this server may customers get to see: its pages, its mails, its name?",
                options=("NOTHING", "MAILS_ONLY", "EVERYTHING"),
            ),
            Question("integrations", "Which systems of yours read events or call functions, and who looks after their API users?"),
        ),
    ),
    Section(
        ConfigurationSectionName.CUSTOMERS,
        (
            Question(
                PRIVATE_BETA,
                "Is the product in a private beta? YES: you import the customers, and each needs an activation code to claim a device."
                " NO: every customer can claim one.",
                options=(YES, NO),
                effect=QuestionEffect.BEHAVIOR,
            ),
            Question("customer_control", "Which functions may a customer call, and which are for your team alone?"),
            Question("returns", "Who takes back a returned device, and readies it for its next owner?"),
        ),
    ),
    Section(
        ConfigurationSectionName.FIRMWARE,
        (
            Question(
                PROGRAMMING,
                "When does a device get the product's firmware? ON_THE_LINE: while it is made; it works out of the box, and the binary must"
                " be final before that. AT_SETUP: over the air when its owner first connects it; the firmware can change until then, and"
                " the device does not work before.",
                options=(ON_THE_LINE, AT_SETUP),
                effect=QuestionEffect.BEHAVIOR,
            ),
            Question("test_group", "Which development kits run every new version before it is released to customers?"),
            Question("without_network", "What does a device do for its owner while it has no network, or an update has failed?"),
        ),
    ),
)

QUESTIONS = {question.key: question for section in SECTIONS for question in section.questions}
