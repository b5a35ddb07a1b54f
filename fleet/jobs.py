"""Work that happens after a commit: put down in the verb's own transaction, taken up by worker.py, never lost between."""

from collections.abc import Mapping
from datetime import UTC, datetime

from auth.sealing import Sealer
from mailer import Mail
from models.operations import Job
from models.transaction import after_commit
from realtime.wakeup import JOBS, notify

MAIL = "mail"
IMPORT = "import"


async def put_down(kind: str, payload: Mapping[str, object], *, due_at: datetime | None = None) -> Job:
    """Promise to do this; inside transaction(), so that the promise stands or falls with the act."""
    job = await Job.create(kind=kind, payload=dict(payload), due_at=due_at or datetime.now(UTC))
    after_commit(lambda: notify(JOBS))
    return job


async def mail(letter: Mail, sealer: Sealer) -> None:
    """Promise to send a mail. Its text is sealed: it may hold a token, and a dump of the database must not."""
    text = sealer.seal(letter.text, context="job/mail")
    await put_down(MAIL, {"to": letter.to, "subject": letter.subject, "text": text})


def letter_of(payload: Mapping[str, str], sealer: Sealer) -> Mail:
    return Mail(to=payload["to"], subject=payload["subject"], text=sealer.unseal(payload["text"], context="job/mail"))
