"""The letters: what they name, what a program can take out of them, and that a chosen name cannot write in them."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from auth.tokens import Kind, mint
from fleet.team.letters import invitation, password_changed, password_reset

AT = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
URL = "https://fleet.example"


def invite(**changes):
    values = {
        "organization": "Analytical Engines",
        "inviter": "Charles Babbage",
        "role": "DEVELOPER",
        "invitation_id": "SW52aXRhdGlvbjox",
        "expires_at": AT,
        "public_url": URL,
    }
    return invitation("ada@x.example", **{**values, **changes})


def test_an_invitation_names_organization_inviter_role_and_how_to_accept():
    mail = invite()

    assert mail.to == "ada@x.example"
    assert mail.subject == "Charles Babbage invites you to Analytical Engines on Flotilla"
    assert "Charles Babbage" in mail.text and "Analytical Engines" in mail.text and "as DEVELOPER" in mail.text
    assert 'acceptInvitation(input: { id: "SW52aXRhdGlvbjox" })' in mail.text
    assert "declineInvitation" in mail.text
    assert "2025-01-02 at 03:04 UTC" in mail.text
    assert URL in mail.text


def test_a_reset_letter_holds_the_token_as_one_word_on_its_own_line():
    token = mint(Kind.PASSWORD_RESET).text

    mail = password_reset("ada@x.example", token=token, expires_at=AT, public_url=URL)

    assert re.findall(r"^(flr_\w+)$", mail.text, re.MULTILINE) == [token]
    assert mail.text.count(token) == 1
    assert token not in mail.subject and token not in repr(mail)
    assert "resetPassword" in mail.text


def test_a_changed_password_is_told_with_the_time_and_what_to_do():
    mail = password_changed("ada@x.example", changed_at=AT.astimezone(timezone(timedelta(hours=5))), public_url=URL)

    assert "changed on 2025-01-02 at 03:04 UTC" in mail.text
    assert 'requestPasswordReset(input: { email: "ada@x.example" })' in mail.text


@pytest.mark.parametrize(
    "name", ["Acme\r\nBcc: eve@x.example", "Acme\n\nYour account is locked", "Ac\x1b[2Jme", "Acme\u202eevil", "Acme\ud800", "A" * 10_000]
)
def test_a_chosen_name_stays_one_short_line(name):
    plain = invite()

    mail = invite(organization=name, inviter=name)

    assert len(mail.text.splitlines()) == len(plain.text.splitlines())
    assert mail.text.replace("\n", "").isprintable()
    assert len(mail.subject) < 200
