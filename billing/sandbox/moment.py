"""When something happens on a customer's clock, and the rules of the account it happens under."""

from dataclasses import dataclass

DAY_S = 86400


@dataclass(frozen=True)
class Rules:
    """What a dashboard would set. Defaults: the schedule our documentation tells operators to choose."""

    retry_days: tuple[int, ...] = (3, 5, 7)  # after the previous attempt each
    final_action: str = "cancel"  # cancel | unpaid | paused: when the last retry has failed
    draft_s: int = 3600  # seconds a renewal's invoice stays a draft
    incomplete_s: int = 23 * 3600  # seconds a first payment may take
    page_url: str = "http://127.0.0.1:8000/billing-sandbox"  # where the pages of this sandbox are seen from outside


@dataclass(frozen=True)
class Moment:
    """Whole seconds since 1970, on the clock of whatever it is about."""

    at: int
    rules: Rules
    wall: int  # what the clock on the wall shows meanwhile: webhooks go by it
