"""Work that happens after a commit: put down in the verb's own transaction, taken up by worker.py, never lost between."""

from collections.abc import Mapping
from typing import Any

from auth.sealing import Sealer
from mailer import Mail
from realtime.jobs import put_down

__all__ = ["IMPORT", "MAIL", "letter_of", "mail", "put_down"]

MAIL = "mail"
IMPORT = "import"


async def mail(letter: Mail, sealer: Sealer) -> None:
    """Promise to send a mail. Its text is sealed: it may hold a token, and a dump of the database must not."""
    text = sealer.seal(letter.text, context="job/mail")
    await put_down(MAIL, {"to": letter.to, "subject": letter.subject, "text": text, "sender": letter.sender_name})


def letter_of(payload: Mapping[str, Any], sealer: Sealer) -> Mail:
    text = sealer.unseal(payload["text"], context="job/mail")
    return Mail(payload["to"], payload["subject"], text, sender_name=payload["sender"])
