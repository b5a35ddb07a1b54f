"""The texts of the mails about paying: values in, a Mail out.

Source: guide, "Failed Payments": a mail each time an attempt is made and fails; details, "Mail".
"""

from datetime import UTC, datetime

from billing.till import Notice, NoticeKind
from fleet.letters import name_line
from mailer import Mail


def letter(to: str, notice: Notice, *, organization: str, slug: str, public_url: str) -> Mail:
    """The mail for one notice, to one person who manages the organization's billing."""
    team = name_line(organization)
    subject, text = _TEXTS[notice.kind](notice, team, slug)
    return Mail(to, subject, f"Hello,\n\n{text}\n\nThe billing page of {team} is at {public_url}:\n\n{_query(slug)}\n")


def _trial_ending(notice: Notice, team: str, slug: str) -> tuple[str, str]:
    ends = _day(notice.at)
    if notice.has_card:
        rest = "Your card will then be charged for the first period. Nothing has been charged so far."
    else:
        rest = f"There is no card yet: without one, {team} becomes inactive on that day. Nothing is deleted.\n\n{_give_a_card(slug)}"
    return f"The trial of {team} ends on {ends}", f"the free trial of {team} ends on {ends}.\n{rest}"


def _trial_over(notice: Notice, team: str, slug: str) -> tuple[str, str]:
    text = f"""the free trial of {team} is over, and there was no card to charge.
The team has no access until somebody re-activates the subscription. Nothing was charged and nothing was deleted;
devices, customers and released firmware go on as before.

{_come_back(slug)}"""
    return f"The trial of {team} is over", text


def _payment_failed(notice: Notice, team: str, slug: str) -> tuple[str, str]:
    what = f"attempt {notice.attempt} to charge {_money(notice)}{_number(notice)} for {team} failed."
    if notice.is_paid:
        rest = "It has been paid since: there is nothing left to do."
    elif notice.at is not None:
        rest = f"We will try again on {_day(notice.at)}. Until then nothing changes for the team.\n\n{_give_a_card(slug)}"
    else:
        rest = "There will be no further attempt."
    return f"A payment for {team} failed", f"{what}\n{rest}"


def _locked(notice: Notice, team: str, slug: str) -> tuple[str, str]:
    text = f"""we could not charge the card of {team}, so the team has no access any more.
Nothing was deleted: organization, products and all data are kept. Devices, customers and released firmware go on as before.

{_come_back(slug)}"""
    return f"{team} is locked", text


def _ended(notice: Notice, team: str, slug: str) -> tuple[str, str]:
    text = f"""the subscription of {team} has ended, as was asked for. The team has no access any more.
Nothing was deleted; devices, customers and released firmware go on as before.

{_come_back(slug)}"""
    return f"The subscription of {team} has ended", text


def _receipt(notice: Notice, team: str, slug: str) -> tuple[str, str]:
    text = f"{_money(notice)}{_number(notice)} was paid for {team}. Access is paid until {_day(notice.at)}."
    return f"Receipt for {team}: {_money(notice)}", text + (f"\n\nThe invoice: {notice.hosted_url}" if notice.hosted_url else "")


_TEXTS = {
    NoticeKind.TRIAL_ENDING: _trial_ending,
    NoticeKind.TRIAL_OVER: _trial_over,
    NoticeKind.PAYMENT_FAILED: _payment_failed,
    NoticeKind.LOCKED: _locked,
    NoticeKind.ENDED: _ended,
    NoticeKind.RECEIPT: _receipt,
}


def _give_a_card(slug: str) -> str:
    return f"""To give another card, open the page that this answers with, then tell us with updateCard:

    mutation {{ createCardSetup(input: {{ organization: "{slug}", flow: HOSTED }}) {{ setup {{ id hostedUrl }} errors {{ message }} }} }}"""


def _come_back(slug: str) -> str:
    return f"""To come back, with the card that is on file or a new one by createCardSetup:

    mutation {{ reactivateSubscription(input: {{ organization: "{slug}" }}) {{ billing {{ state }} errors {{ message }} }} }}"""


def _query(slug: str) -> str:
    fields = "state plan seats accessUntil card { brand last4 } invoices { nodes { number total status } }"
    return f'    query {{ organization(slug: "{slug}") {{ billing {{ {fields} }} }} }}'


def _money(notice: Notice) -> str:
    return f"{notice.amount / 100:,.2f} {notice.currency.upper()}"


def _number(notice: Notice) -> str:
    return f" (invoice {notice.number})" if notice.number else ""


def _day(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}" if at else "an unknown day"
