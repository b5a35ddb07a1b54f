"""Sends one mail: by SMTP, or to the console where there is no server; with MAIL_DIR each one also as a file."""

import asyncio
import logging
import os
import re
import secrets
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses, make_msgid, parseaddr
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import aiosmtplib

from settings import Settings, SettingsRefused

STEP_TIMEOUT_S = 10.0  # of each answer of the server
SEND_TIMEOUT_S = 30.0  # of the whole mail: a server that trickles cannot hold us
LINE_MAX_BYTES = 998  # of a line that may travel as it is (RFC 5322, 2.1.1)

log = logging.getLogger("flotilla.mailer")

_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\"\\]{1,64}@[^\s@,;:<>()\[\]\"\\]{1,190}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class MailFailed(Exception):
    """A mail did not go out; the message says why, and holds neither its text nor a password."""


class MailRefused(MailFailed):
    """It never will: no such recipient, or not an address at all. Do not try again."""


class MailDelayed(MailFailed):
    """The server is away, busy or wrongly set up. Try again later."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One plain-text mail to one address. Raises MailRefused when `to` is no address or a header would get a second line.

    `sender_name` stands in place of our own before the sender's address.
    """

    to: str
    subject: str
    text: str = field(repr=False)  # it may hold a token
    sender_name: str | None = None

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.to) or _CONTROLS.search(self.to):
            raise MailRefused("This is not one e-mail address.")
        if _CONTROLS.search(self.subject) or _CONTROLS.search(self.sender_name or ""):
            raise MailRefused("A subject or a sender is one line without control characters.")


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mails are handed over. `encrypted`: TLS from the first byte; otherwise STARTTLS when offered."""

    host: str
    port: int
    encrypted: bool
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def must_start_tls(self) -> bool | None:
        """True where a password would otherwise cross a network in the clear; None = when offered."""
        return True if self.username and not self.encrypted and not _is_loopback(self.host) else None


class Mailer:
    """Sends mails in the name of `sender`; holds no connection, so nothing needs to be closed."""

    def __init__(
        self, sender: str, *, server: SmtpServer | None = None, mail_dir: Path | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._sender = sender
        self._server = server
        self._mail_dir = mail_dir
        self._tls = tls

    async def send(self, mail: Mail) -> None:
        """Hand `mail` over, at most 30 seconds; back when the server has taken it, or it stands on the console.

        The file in MAIL_DIR is written once the server took it, so that each file is a mail that went out.
        Raises MailRefused or MailDelayed.
        """
        if self._server:
            await self._hand_over(mail, self._server)
        if self._mail_dir:
            await self._keep(mail, self._mail_dir)
        if not self._server and not self._mail_dir:
            log.info("Mail to %s: %s\n%s", mail.to, mail.subject, _CONTROLS.sub(_shown, mail.text.replace("\r\n", "\n")))

    async def _hand_over(self, mail: Mail, server: SmtpServer) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await aiosmtplib.send(
                    _message(mail, self._sender, utf8=False),
                    sender=parseaddr(self._sender)[1],
                    recipients=[mail.to],
                    hostname=server.host,
                    port=server.port,
                    username=server.username,
                    password=server.password,
                    use_tls=server.encrypted,
                    start_tls=False if server.encrypted else server.must_start_tls,
                    tls_context=self._tls,
                    local_hostname=_domain(self._sender),
                    timeout=STEP_TIMEOUT_S,
                )
        except (aiosmtplib.SMTPException, OSError) as failure:  # OSError: also TimeoutError and ssl.SSLError
            raise _told(failure, mail) from failure

    async def _keep(self, mail: Mail, mail_dir: Path) -> None:
        try:
            path = await asyncio.to_thread(_write, mail_dir, _message(mail, self._sender, utf8=True).as_bytes())
        except OSError as failure:
            if not self._server:
                raise MailDelayed(f"The mail could not be written to {mail_dir}: {failure.strerror}.") from failure
            log.error("A mail to %s went out, but could not be written to %s: %s", mail.to, mail_dir, failure.strerror)
        else:
            log.info("Mail to %s: %s (%s)", mail.to, mail.subject, path)


def open_mailer(settings: Settings) -> Mailer:
    """The mailer the settings ask for. Raises SettingsRefused for an SMTP_URL, MAIL_FROM or MAIL_DIR that cannot work."""
    senders = [address for _, address in getaddresses([settings.mail_from])]
    if len(senders) != 1 or not _ADDRESS.fullmatch(senders[0]) or _CONTROLS.search(settings.mail_from):
        raise SettingsRefused('MAIL_FROM must be an address, such as "Flotilla <no-reply@example.com>".')
    if settings.mail_dir:
        try:
            settings.mail_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as failure:
            raise SettingsRefused(f"MAIL_DIR {settings.mail_dir} cannot be made: {failure.strerror}.") from None
    server = _server(settings.smtp_url) if settings.smtp_url else None
    return Mailer(settings.mail_from, server=server, mail_dir=settings.mail_dir)


def _server(smtp_url: str) -> SmtpServer:
    try:
        url = urlsplit(smtp_url)
        port = url.port
    except ValueError:
        raise _url_refused() from None
    if url.scheme not in ("smtp", "smtps") or not url.hostname or url.path.strip("/") or url.query or url.fragment:
        raise _url_refused()
    encrypted = url.scheme == "smtps"
    return SmtpServer(url.hostname, port or (465 if encrypted else 25), encrypted, *_credentials(url))


def _credentials(url: SplitResult) -> tuple[str | None, str | None]:
    if url.username is None:
        return None, None
    return unquote(url.username), unquote(url.password or "")


def _url_refused() -> SettingsRefused:
    """Without repeating the URL: it may hold a password."""
    return SettingsRefused("SMTP_URL must look like smtp://user:password@host:port or smtps://…, special characters percent-encoded.")


def _message(mail: Mail, sender: str, *, utf8: bool) -> EmailMessage:
    """The mail in full. With `utf8` letters stand as they are, for files; without, everything travels as ASCII."""
    message = EmailMessage(policy.default.clone(utf8=utf8))
    message["From"] = sender if mail.sender_name is None else Address(mail.sender_name, addr_spec=parseaddr(sender)[1])
    message["To"] = mail.to
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain=_domain(sender))
    message["Auto-Submitted"] = "auto-generated"
    text = mail.text.encode(errors="replace").decode()
    short = max((len(line.encode()) for line in text.splitlines()), default=0) <= LINE_MAX_BYTES
    # never re-wrapped: a token on a line of its own stays there for every reader
    transfer = "7bit" if short and text.isascii() else "8bit" if short and utf8 else "quoted-printable"
    message.set_content(text, charset="utf-8", cte=transfer)
    return message


def _write(mail_dir: Path, content: bytes) -> Path:
    """A new file, readable by us alone, that is there whole or not at all; names sort by time."""
    path = mail_dir / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}.eml"
    part = path.with_suffix(".part")
    mail_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    part.rename(path)
    return path


def _told(failure: Exception, mail: Mail) -> MailFailed:
    if isinstance(failure, aiosmtplib.SMTPRecipientsRefused):
        failure = failure.recipients[0]
    if isinstance(failure, aiosmtplib.SMTPResponseException):
        answer = f"{failure.code} {_line(failure.message)}"
        about_the_mail = isinstance(failure, aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPSenderRefused | aiosmtplib.SMTPDataError)
        if about_the_mail and 500 <= failure.code < 600:
            return MailRefused(f"The mail server refused the mail: {answer}")
        return MailDelayed(f"The mail server did not take the mail: {answer}")
    if isinstance(failure, aiosmtplib.SMTPNotSupported) and not mail.to.isascii():
        return MailRefused("The mail server takes no addresses with letters beyond ASCII.")
    if isinstance(failure, TimeoutError):
        return MailDelayed("The mail server did not answer in time.")
    return MailDelayed(f"The mail server cannot be used: {type(failure).__name__}: {_line(str(failure))}")


def _line(text: str) -> str:
    return _CONTROLS.sub(" ", text)[:200]


def _shown(control: re.Match[str]) -> str:
    """A terminal must not obey what somebody put into a name."""
    return control[0] if control[0] in "\n\t" else ascii(control[0])[1:-1]


def _domain(sender: str) -> str:
    """What we call ourselves; asking the resolver for our own name could take seconds."""
    return parseaddr(sender)[1].rpartition("@")[2]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
