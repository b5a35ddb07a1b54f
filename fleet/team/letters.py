"""The texts of the mails about accounts and teams: values in, a Mail out."""

from datetime import datetime

from fleet.letters import moment, name_line
from mailer import Mail


def invitation(to: str, *, organization: str, inviter: str, role: str, invitation_id: str, expires_at: datetime, public_url: str) -> Mail:
    """Tell the person behind an account that `inviter` asks them to join. `invitation_id` is the global id."""
    team, person = name_line(organization), name_line(inviter)
    return Mail(
        to,
        f"{person} invites you to {team} on Flotilla",
        f"""Hello,

{person} invites you to the organization
{team}
as {role}.

The invitation is for {to} and ends on {moment(expires_at)}.
Log in at {public_url} and accept or decline it:

    mutation {{
      acceptInvitation(input: {{ id: "{invitation_id}" }}) {{ member {{ id }} errors {{ message }} }}
    }}

declineInvitation takes the same input. All your open invitations:

    query {{ viewer {{ invitations {{ id organization {{ name }} }} }} }}

If you do not know {person}, do nothing.
""",
    )


def password_reset(to: str, *, token: str, expires_at: datetime, public_url: str) -> Mail:
    """Carry a reset token, alone on its line, to the person who asked for a new password."""
    return Mail(
        to,
        "A new password for your Flotilla account",
        f"""Hello,

somebody, probably you, asked for a new password for the account {to}.
Your reset token is

{token}

It works once, until {moment(expires_at)}, at {public_url}:

    mutation {{
      resetPassword(input: {{ resetToken: "(the token)", new: "(your new password)" }}) {{ errors {{ message }} }}
    }}

If it was not you, do nothing: your password stays as it is. Give the token to nobody.
""",
    )


def password_changed(to: str, *, changed_at: datetime, public_url: str) -> Mail:
    """Tell the owner of an account that its password is another one now, so that a thief cannot change it unseen."""
    return Mail(
        to,
        "The password of your Flotilla account was changed",
        f"""Hello,

the password of the account {to} was changed on {moment(changed_at)}.
All other sessions of the account have ended.

If it was not you, ask for a new password at {public_url} at once:

    mutation {{
      requestPasswordReset(input: {{ email: "{to}" }}) {{ errors {{ message }} }}
    }}
""",
    )
