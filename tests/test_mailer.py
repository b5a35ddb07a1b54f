"""The mailer against a real SMTP server, a folder and the console: what arrives, what is refused, what never leaks."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import mailer
from mailer import Mail, MailDelayed, Mailer, MailRefused, SmtpServer, open_mailer
from settings import Settings, SettingsRefused

SENDER = "Flotilla <no-reply@flotilla.example>"
MAIL = Mail("ada@analytical.example", "A new password", "Hello,\n\nflr_token\n\nGoodbye.\n")


class Peer:
    """Keeps what it is sent; answers RCPT and DATA as told."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], EmailMessage, bytes]] = []
        self.secured: list[bool] = []
        self.log_ins: list[tuple[bytes, bytes]] = []
        self.rcpt = self.data = "250 OK"
        self.pause_s = 0.0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, server, session, envelope):
        await asyncio.sleep(self.pause_s)
        if self.data.startswith("250"):
            message = message_from_bytes(envelope.content, policy=policy.default)
            self.mails.append((envelope.mail_from, envelope.rcpt_tos, message, envelope.content))
            self.secured.append(server.transport.get_extra_info("ssl_object") is not None)
        return self.data

    def log_in(self, server, session, envelope, mechanism, data) -> AuthResult:
        self.log_ins.append((data.login, data.password))
        return AuthResult(success=data.password == b"p@ss/word", handled=False)


@asynccontextmanager
async def listening(peer: Peer, *, encrypted: ssl.SSLContext | None = None, **options: object) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(peer, hostname="peer.example", loop=loop, authenticator=peer.log_in, **options), "127.0.0.1", 0, ssl=encrypted
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def mailer_to(port: int, **changes: object) -> Mailer:
    return Mailer(SENDER, server=SmtpServer("127.0.0.1", port, encrypted=False), **changes)


@pytest.fixture(scope="module")
def certified(tmp_path_factory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server on localhost, and for clients that trust it."""
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "both.pem").write_bytes(private + pem)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "both.pem")
    return server, ssl.create_default_context(cadata=pem.decode())


async def test_a_mail_arrives_whole_with_its_headers():
    peer = Peer()
    async with listening(peer) as port:
        await mailer_to(port).send(MAIL)

    [(sender, recipients, message, raw)] = peer.mails
    assert (sender, recipients) == ("no-reply@flotilla.example", ["ada@analytical.example"])
    assert message["From"] == SENDER
    assert message["To"] == "ada@analytical.example"
    assert message["Subject"] == "A new password"
    assert message["Message-ID"].endswith("@flotilla.example>")
    assert message["Auto-Submitted"] == "auto-generated"
    assert abs(message["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=5)
    assert message.get_content_type() == "text/plain"
    assert message.get_content().replace("\r\n", "\n") == MAIL.text
    assert b"\r\nflr_token\r\n" in raw


@pytest.mark.parametrize("text", ["Zoë lädt dich ein\n", "x" * 5000 + "\n", "日本語 " * 400 + "\n", ".\n..\nend\n", "\n", ""])
async def test_any_text_arrives_as_it_was_written(text):
    peer = Peer()
    async with listening(peer) as port:
        await mailer_to(port).send(Mail("ada@analytical.example", "Zoë – 日本語", text))

    [(_, _, message, raw)] = peer.mails
    assert message.get_content().replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")
    assert message["Subject"] == "Zoë – 日本語"
    assert raw.isascii()


@pytest.mark.parametrize("name", ["Acme", 'Zoë & "Söhne", Inc. <x@y.example>'])
async def test_a_mail_in_somebody_elses_name_comes_from_our_address(name):
    peer = Peer()
    async with listening(peer) as port:
        await mailer_to(port).send(Mail("ada@analytical.example", "Hello", "Hi\n", sender_name=name))

    [(_, _, message, _)] = peer.mails
    (sender,) = message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (name, parseaddr(SENDER)[1])


def test_a_senders_name_is_one_line():
    with pytest.raises(MailRefused):
        Mail("ada@analytical.example", "Hello", "Hi\n", sender_name="Acme\nBcc: eve@example.com")


async def test_a_long_subject_arrives_with_all_its_letters():
    """Only letters are compared: where it folds, the standard library of Python 3.11 may lose a space between two encoded words."""
    peer = Peer()
    async with listening(peer) as port:
        await mailer_to(port).send(Mail("ada@analytical.example", "Zoë – 日本語 " * 10, "Hi\n"))

    [(_, _, message, raw)] = peer.mails
    assert message["Subject"].replace(" ", "") == "Zoë–日本語" * 10
    assert raw.isascii()


@pytest.mark.parametrize(
    ("to", "subject"),
    [
        ("ada@analytical.example\r\nBcc: eve@x.example", "s"),
        ("ada@analytical.example\n", "s"),
        ("ada@analytical.example, eve@x.example", "s"),
        ("Ada <ada@analytical.example>", "s"),
        ("ada", "s"),
        ("", "s"),
        ("@analytical.example", "s"),
        ("a" * 65 + "@analytical.example", "s"),
        ("ada@\ud800.example", "s"),
        ("ada@analytical.example", "s\r\nBcc: eve@x.example"),
        ("ada@analytical.example", "s\nX: y"),
        ("ada@analytical.example", "s\x00"),
        ("ada@analytical.example", "s\u2028"),
    ],
)
def test_a_second_header_line_or_recipient_cannot_be_written(to, subject):
    with pytest.raises(MailRefused):
        Mail(to, subject, "text")


async def test_what_the_server_refuses_for_good_is_told_by_type_and_nothing_is_kept(tmp_path):
    peer = Peer()
    peer.rcpt = "550 no such user"
    async with listening(peer) as port:
        with pytest.raises(MailRefused, match="550 no such user"):
            await mailer_to(port, mail_dir=tmp_path).send(MAIL)
        peer.rcpt, peer.data = "250 OK", "554 looks like spam"
        with pytest.raises(MailRefused, match="554 looks like spam"):
            await mailer_to(port, mail_dir=tmp_path).send(MAIL)

    assert peer.mails == []
    assert list(tmp_path.iterdir()) == []


async def test_what_may_go_later_is_told_by_type(monkeypatch):
    peer = Peer()
    peer.rcpt = "451 come back later"
    async with listening(peer) as port:
        with pytest.raises(MailDelayed, match="451 come back later"):
            await mailer_to(port).send(MAIL)
        peer.rcpt, peer.pause_s = "250 OK", 5.0
        monkeypatch.setattr(mailer, "STEP_TIMEOUT_S", 0.2)
        with pytest.raises(MailDelayed, match="did not answer in time"):
            await mailer_to(port).send(MAIL)

    with pytest.raises(MailDelayed):
        await mailer_to(port).send(MAIL)  # nobody listens there any more
    assert peer.mails == []


async def test_a_server_that_trickles_cannot_hold_a_mail_for_ever(monkeypatch):
    async def trickle(reader, writer):
        while True:
            writer.write(b"220-still here\r\n")
            await asyncio.sleep(0.05)

    monkeypatch.setattr(mailer, "SEND_TIMEOUT_S", 0.5)
    server = await asyncio.start_server(trickle, "127.0.0.1", 0)

    with pytest.raises(MailDelayed, match="did not answer in time"):
        await mailer_to(server.sockets[0].getsockname()[1]).send(MAIL)
    server.close()


async def test_an_address_beyond_ascii_goes_to_a_server_that_takes_it_and_is_refused_by_another():
    mail, peer = Mail("zoë@analytical.example", "Hello", "Hi\n"), Peer()
    async with listening(peer, enable_SMTPUTF8=True) as port:
        await mailer_to(port).send(mail)
    async with listening(peer) as port:
        with pytest.raises(MailRefused, match="beyond ASCII"):
            await mailer_to(port).send(mail)

    [(_, recipients, message, _)] = peer.mails
    assert recipients == ["zoë@analytical.example"]
    assert message["To"] == "zoë@analytical.example"


async def test_starttls_is_used_when_offered_and_tls_from_the_first_byte_with_smtps(certified):
    server_tls, client_tls = certified
    peer = Peer()
    async with listening(peer, tls_context=server_tls) as port:
        await Mailer(SENDER, server=SmtpServer("localhost", port, encrypted=False), tls=client_tls).send(MAIL)
    async with listening(peer, encrypted=server_tls) as port:
        await Mailer(SENDER, server=SmtpServer("localhost", port, encrypted=True), tls=client_tls).send(MAIL)

    assert len(peer.mails) == 2
    assert peer.secured == [True, True]


async def test_a_certificate_nobody_vouches_for_gets_no_mail(certified):
    peer = Peer()
    async with listening(peer, tls_context=certified[0]) as port:
        with pytest.raises(MailDelayed, match="(?i)certificate"):
            await Mailer(SENDER, server=SmtpServer("localhost", port, encrypted=False)).send(MAIL)

    assert peer.mails == []


async def test_the_log_in_of_the_url_is_used_and_a_wrong_one_delays_without_showing_the_password():
    peer = Peer()
    async with listening(peer, auth_require_tls=False) as port:
        await open_mailer(Settings(smtp_url=f"smtp://us%40er:p%40ss%2Fword@127.0.0.1:{port}")).send(MAIL)
        with pytest.raises(MailDelayed, match="535") as delayed:
            await open_mailer(Settings(smtp_url=f"smtp://us%40er:swordfish@127.0.0.1:{port}")).send(MAIL)

    assert peer.log_ins[0] == (b"us@er", b"p@ss/word")
    assert "swordfish" not in str(delayed.value)
    assert len(peer.mails) == 1


def test_a_password_does_not_cross_a_network_in_the_clear():
    assert SmtpServer("mail.example", 25, encrypted=False, username="u", password="p").must_start_tls is True
    assert SmtpServer("mail.example", 25, encrypted=False).must_start_tls is None
    assert SmtpServer("127.0.0.1", 25, encrypted=False, username="u", password="p").must_start_tls is None
    assert SmtpServer("localhost", 25, encrypted=False, username="u", password="p").must_start_tls is None
    assert "p'" not in repr(SmtpServer("mail.example", 25, encrypted=False, username="u", password="p"))


async def test_with_a_server_and_a_folder_each_mail_that_went_out_is_a_file_too(tmp_path):
    peer = Peer()
    async with listening(peer) as port:
        await mailer_to(port, mail_dir=tmp_path / "mails").send(MAIL)

    [path] = (tmp_path / "mails").iterdir()
    assert len(peer.mails) == 1
    assert message_from_bytes(path.read_bytes(), policy=policy.default)["To"] == "ada@analytical.example"


async def test_files_are_readable_as_they_stand_sorted_by_time_and_ours_alone(tmp_path):
    folder = tmp_path / "a" / "mails"
    post = open_mailer(Settings(mail_dir=folder))
    for number in range(30):
        await post.send(Mail("ada@analytical.example", f"Zoë {number}", f"Zoë\n\nflr_{number}\n"))

    paths = sorted(folder.iterdir())
    assert [path.suffix for path in paths] == [".eml"] * 30
    assert [message_from_bytes(path.read_bytes(), policy=policy.default)["Subject"] for path in paths] == [f"Zoë {n}" for n in range(30)]
    assert "\n\nZoë\n\nflr_0\n" in paths[0].read_text()
    assert (folder.stat().st_mode & 0o777, paths[0].stat().st_mode & 0o777) == (0o700, 0o600)


async def test_many_mails_at_once_are_as_many_files(tmp_path):
    post = open_mailer(Settings(mail_dir=tmp_path))

    await asyncio.gather(*(post.send(MAIL) for _ in range(100)))

    assert len(list(tmp_path.glob("*.eml"))) == len(list(tmp_path.iterdir())) == 100


async def test_a_folder_that_cannot_be_written_delays_the_mail_but_not_one_that_went_out(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    peer = Peer()

    with pytest.raises(MailDelayed, match="could not be written"):
        await Mailer(SENDER, mail_dir=tmp_path / "file").send(MAIL)
    async with listening(peer) as port:
        await mailer_to(port, mail_dir=tmp_path / "file").send(MAIL)

    assert len(peer.mails) == 1
    assert [record.levelname for record in caplog.records if record.name == "flotilla.mailer"] == ["ERROR"]


async def test_with_neither_the_console_shows_the_whole_mail_and_obeys_nothing_in_it(caplog):
    caplog.set_level(logging.INFO)

    await open_mailer(Settings()).send(Mail("ada@analytical.example", "Hi", "Hello\x1b[2J\r\n\nflr_token\nZoë\n"))

    [record] = [record for record in caplog.records if record.name == "flotilla.mailer"]
    assert record.getMessage() == "Mail to ada@analytical.example: Hi\nHello\\x1b[2J\n\nflr_token\nZoë\n"


async def test_where_the_mail_goes_elsewhere_its_text_is_not_logged(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    async with listening(Peer()) as port:
        await mailer_to(port, mail_dir=tmp_path).send(MAIL)
    await open_mailer(Settings(mail_dir=tmp_path)).send(MAIL)

    assert not [record for record in caplog.records if record.name == "flotilla.mailer" and "flr_token" in record.getMessage()]
    assert len([record for record in caplog.records if record.name == "flotilla.mailer"]) == 2
    assert "flr_token" not in repr(MAIL)


@pytest.mark.parametrize(
    "url",
    [
        "mail.example",
        "http://mail.example",
        "smtp://",
        "smtp://u:swordfish@mail.example:port",
        "smtp://u:swordfish@mail.example:99999",
        "smtp://u:swordfish@[mail",
        "smtp://u:swordfish@mail.example/path",
        "smtp://u:sword#fish@mail.example",
    ],
)
def test_an_unusable_smtp_url_refuses_to_start_and_is_not_repeated(url):
    with pytest.raises(SettingsRefused, match="SMTP_URL") as refused:
        open_mailer(Settings(smtp_url=url))

    assert "swordfish" not in str(refused.value)


@pytest.mark.parametrize("sender", ["", "Flotilla", "a@b, c@d", "A <a@b>\r\nBcc: c@d"])
def test_an_unusable_sender_refuses_to_start(sender):
    with pytest.raises(SettingsRefused, match="MAIL_FROM"):
        open_mailer(Settings(mail_from=sender))


def test_a_mail_dir_that_cannot_be_made_refuses_to_start(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(SettingsRefused, match="MAIL_DIR"):
        open_mailer(Settings(mail_dir=tmp_path / "file" / "mails"))
