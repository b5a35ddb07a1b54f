"""The configuration of a product: its questions, their answers, and the start of manufacturing."""

import strawberry

from fleet.products.questionnaire import ConfigurationSectionName, QuestionEffect
from models.product import AuthMethod
from schema.fields import DateTime, described, enumeration

enumeration(
    ConfigurationSectionName,
    "The parts of a product's configuration.",
    OVERVIEW="What the product is.",
    WORKING_WITH_PLATFORM="How it and its customers meet this server.",
    CUSTOMERS="Who may own a device, and do what with it.",
    FIRMWARE="How devices get the product's firmware.",
)
enumeration(
    QuestionEffect,
    "What an answer does.",
    BEHAVIOR="It changes how the product works.",
    ADVICE="It changes nothing here; the question is worth thinking about in time.",
)
enumeration(
    AuthMethod,
    "Who keeps the accounts of a product's customers, and how they log in.",
    SIMPLE="The accounts live here; customers sign up and log in here.",
    SELF_MANAGED="The maker keeps the accounts, and one API user acts for all customers.",
    TWO_LEGGED="The maker keeps the accounts, and its server fetches a token for each customer.",
    OAUTH="The customer links an account at the maker's with one here.",
)


@strawberry.type(description="A question that the makers of a product answer before they manufacture.")
class Question:
    key: str = described("Its name for programs; never changes.")
    text: str = described("The question.")
    effect: QuestionEffect = described("Whether the answer changes what the product does.")
    options: list[str] | None = described("What can be answered; null: any text.")
    answer: str | None = described("The product's answer; null while the question is open.")
    answered_at: DateTime | None = described("When it was answered, or last changed.")


@strawberry.type(description="Questions that belong together.")
class ConfigurationSection:
    name: ConfigurationSectionName = described("Which section.")
    questions: list[Question] = described("Its questions, in the order to think about them.")


@strawberry.type(description="The questions of a product, with its answers.")
class Configuration:
    sections: list[ConfigurationSection] = described("Four sections, in order.")
    unanswered: list[str] = described("The keys of open questions; manufacturing can start when it is empty.")
    ready_for_manufacturing: bool = described("Whether every question is answered.")
    manufacturing_started_at: DateTime | None = described("When manufacturing was started; null before.")
    auth_method: AuthMethod | None = described("The answer to the question `auth_method`; null while it is open.")
