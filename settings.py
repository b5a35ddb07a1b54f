"""Every setting of the server: read once from the environment into one frozen dataclass, passed down, never read elsewhere."""

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.config import Config

VERSION = "0.1.0"
PAGE_DEFAULT, PAGE_MAX = 25, 100  # rows of a list in one answer: where no number is given, and at most
IDS_MAX = 250  # named in one call; more come in a file


class SettingsRefused(Exception):
    """The settings contradict each other or are unsafe; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Values and their units. Defaults are the embedded mode: SQLite, one process, nothing to install."""

    # ── where it listens and what it is called from outside ──
    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str = "http://127.0.0.1:8000"  # without a trailing slash; signed URLs and mails begin with it
    data_dir: Path = Path("var")  # SQLite file, firmware files, mails, lock file
    allowed_origins: tuple[str, ...] = ()  # further Origins whose pages may use the API and its sockets; our own always may
    trusted_proxies: tuple[str, ...] = ()  # peers whose X-Forwarded-For is believed; nobody unless named
    trusted_documents: Path | None = None  # JSON file, hash → document: operations that may be asked for by their hash
    trusted_documents_only: bool = False  # True: no other document runs, the explorer's neither
    production: bool = False  # True: introspection for signed-in viewers only, no "Did you mean"
    log_level: str = "INFO"

    # ── stores ──
    database_url: str = ""  # empty = SQLite under data_dir; postgres://… otherwise
    redis_url: str = ""  # empty = wake-ups in the process (SQLite) or by NOTIFY (PostgreSQL)
    blob_url: str = ""  # empty = a folder under data_dir; s3://bucket/prefix?endpoint=…&region=… otherwise; keys as AWS_ACCESS_KEY_ID …
    blob_presigned: bool = False  # True: downloads are sent on to a short-lived URL of the bucket itself; for S3 alone
    database_pool_size: int = 10  # connections a process
    database_command_timeout_s: float = 10.0
    database_connect_timeout_s: float = 5.0
    database_acquire_timeout_s: float = 5.0

    # ── secrets ──
    secret_key: str = ""  # signs URLs, seals device secrets; from_environment makes and keeps one if unset

    # ── mail ──
    smtp_url: str = ""  # smtp://user:password@host:port or smtps://…; empty = console
    mail_dir: Path | None = None  # each mail also as a .eml file here
    mail_from: str = "Flotilla <no-reply@flotilla.invalid>"

    # ── accounts ──
    max_organizations_per_user: int = 1  # 0 = no limit
    invitation_ttl_s: int = 7 * 86400
    session_ttl_s: int = 30 * 86400
    access_token_max_ttl_s: int = 365 * 86400
    access_token_default_ttl_s: int = 90 * 86400
    password_reset_ttl_s: int = 3600
    oauth_code_ttl_s: int = 60
    oauth_access_token_ttl_s: int = 3600
    oauth_refresh_token_ttl_s: int = 30 * 86400  # from the last time it was exchanged
    email_proof_ttl_s: int = 7 * 86400  # of a customer's address
    customer_token_ttl_s: int = 86400  # made by the team for a customer, unless it says another time
    customer_token_max_ttl_s: int = 90 * 86400
    claim_code_ttl_s: int = 86400

    # ── billing ──
    billing: str = "sandbox"  # stripe | sandbox | off; in production it must be said
    stripe_api_key: str = field(default="", repr=False)  # a restricted key (rk_…) is enough
    stripe_publishable_key: str = ""  # pk_…; shown to whoever sets up a card in their own page
    stripe_webhook_secrets: tuple[str, ...] = field(default=(), repr=False)  # several while one is being replaced
    billing_max_retries: int = 3  # after the first attempt: with 3, the fourth failure locks
    billing_trial_days: int = 30
    billing_require_card: bool = False  # to found an organization; unset: on with BILLING=stripe
    billing_return_urls: tuple[str, ...] = ()  # where a hosted card page may send people back to; public_url always

    # ── limits ──
    rate_limits: bool = True  # False lifts the limits per address and per viewer; those per device stay
    body_max_bytes: int = 1 << 20  # a JSON request
    upload_max_bytes: int = 128 << 20  # an import file
    firmware_max_bytes: int = 16 << 20
    socket_frame_max_bytes: int = 1 << 20  # after connection_init; 64 KiB before
    query_tokens_max: int = 2000
    query_tokens_anonymous_max: int = 1000
    query_depth_max: int = 16
    query_cost_max: int = 20_000  # fields, page sizes multiplied
    query_aliases_max: int = 100
    query_directives_max: int = 50
    query_fields_max: int = 2000  # fragments expanded
    query_source_max_bytes: int = 64 << 10
    requests_per_window: int = 10_000  # of one address
    token_requests_per_window: int = 100  # of one address, at /oauth/token and its neighbors
    cost_per_window: int = 2_000_000  # points of one viewer, or of one address without a token
    streams_per_window: int = 100  # sockets one address may open
    sockets_per_address: int = 100  # open at a time
    sockets_per_viewer: int = 100
    rate_window_s: float = 300.0
    operations_per_socket: int = 100
    stalled_reader_s: float = 30.0  # a socket that does not take what is sent to it for so long is closed with 1013
    request_timeout_s: float = 10.0
    upload_timeout_s: float = 300.0  # an operation that carries files

    # ── devices ──
    keep_alive_s: float = 25.0  # a device silent for twice this is offline
    hello_timeout_s: float = 10.0
    event_data_max_bytes: int = 1024
    event_rate_per_s: float = 1.0
    event_burst: int = 4
    device_connects_per_s: float = 2000.0  # accepted by one process
    call_timeout_s: float = 10.0
    download_ttl_s: int = 900
    update_in_flight_s: int = 1800
    update_max_failures: int = 3
    update_block_s: int = 86400

    # ── leases of server processes ──
    beat_s: float = 10.0
    dead_after_s: float = 30.0

    # ── the log ──
    log_retention_s: int = 86400
    log_max_rows: int = 1_000_000
    import_piece_lines: int = 10_000  # lines a transaction

    @property
    def is_sqlite(self) -> bool:
        return self.database_url == "" or self.database_url.startswith("sqlite:")

    def limits(self) -> dict[str, float]:
        """What `server { limits }` shows: every limit a client can run into, with its unit in the name."""
        return {
            "pageSize": PAGE_MAX,
            "idsPerCall": IDS_MAX,
            "bodyBytes": self.body_max_bytes,
            "uploadBytes": self.upload_max_bytes,
            "firmwareBytes": self.firmware_max_bytes,
            "queryTokens": self.query_tokens_max,
            "queryTokensAnonymous": self.query_tokens_anonymous_max,
            "queryDepth": self.query_depth_max,
            "queryCost": self.query_cost_max,
            "queryAliases": self.query_aliases_max,
            "queryDirectives": self.query_directives_max,
            "queryFields": self.query_fields_max,
            "querySourceBytes": self.query_source_max_bytes,
            "requestsPerWindow": self.requests_per_window,
            "tokenRequestsPerWindow": self.token_requests_per_window,
            "costPerWindow": self.cost_per_window,
            "streamsPerWindow": self.streams_per_window,
            "rateWindowSeconds": self.rate_window_s,
            "socketsPerAddress": self.sockets_per_address,
            "socketsPerViewer": self.sockets_per_viewer,
            "operationsPerSocket": self.operations_per_socket,
            "socketMessageBytes": self.socket_frame_max_bytes,
            "uploadSeconds": self.upload_timeout_s,
            "requestSeconds": self.request_timeout_s,
            "eventDataBytes": self.event_data_max_bytes,
            "eventsPerSecond": self.event_rate_per_s,
            "eventBurst": self.event_burst,
            "logRetentionSeconds": self.log_retention_s,
            "logRows": self.log_max_rows,
            "callSeconds": self.call_timeout_s,
            "keepAliveSeconds": self.keep_alive_s,
        }


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings. Raises SettingsRefused with a sentence an operator can act on."""
    config = Config(environ=os.environ if environment is None else environment)
    d = Settings()
    host, port = config("HOST", default=d.host), _number(config, "PORT", d.port)
    data_dir = Path(config("FLOTILLA_DATA_DIR", default=str(d.data_dir))).absolute()
    settings = Settings(
        host=host,
        port=port,
        public_url=config("PUBLIC_URL", default=f"http://{host}:{port}").rstrip("/"),
        data_dir=data_dir,
        allowed_origins=_list(config, "ALLOWED_ORIGINS"),
        trusted_proxies=_list(config, "TRUSTED_PROXIES"),
        trusted_documents=_path(config, "TRUSTED_DOCUMENTS"),
        trusted_documents_only=_switch(config, "TRUSTED_DOCUMENTS_ONLY", d.trusted_documents_only),
        production=_switch(config, "PRODUCTION", d.production),
        log_level=config("LOG_LEVEL", default=d.log_level).upper(),
        database_url=config("DATABASE_URL", default=""),
        redis_url=config("REDIS_URL", default=""),
        blob_url=config("BLOB_URL", default=""),
        blob_presigned=_switch(config, "BLOB_PRESIGNED", d.blob_presigned),
        database_pool_size=_number(config, "DATABASE_POOL_SIZE", d.database_pool_size),
        secret_key=config("SECRET_KEY", default="") or _kept_secret(data_dir),
        smtp_url=config("SMTP_URL", default=""),
        mail_dir=_path(config, "MAIL_DIR"),
        mail_from=config("MAIL_FROM", default=d.mail_from),
        billing=_billing(config, d),
        stripe_api_key=config("STRIPE_API_KEY", default=""),
        stripe_publishable_key=config("STRIPE_PUBLISHABLE_KEY", default=""),
        stripe_webhook_secrets=_list(config, "STRIPE_WEBHOOK_SECRETS"),
        billing_max_retries=_number(config, "BILLING_MAX_RETRIES", d.billing_max_retries),
        billing_trial_days=_number(config, "BILLING_TRIAL_DAYS", d.billing_trial_days),
        billing_require_card=_switch(config, "BILLING_REQUIRE_CARD", config("BILLING", default="") == "stripe"),
        billing_return_urls=_list(config, "BILLING_RETURN_URLS"),
        claim_code_ttl_s=_number(config, "CLAIM_CODE_TTL", d.claim_code_ttl_s),
        max_organizations_per_user=_number(config, "MAX_ORGANIZATIONS_PER_USER", d.max_organizations_per_user),
        keep_alive_s=_decimal(config, "KEEP_ALIVE", d.keep_alive_s),
        beat_s=_decimal(config, "BEAT", d.beat_s),
        dead_after_s=_decimal(config, "DEAD_AFTER", d.dead_after_s),
        **_limits(config, d),
    )
    _refuse_unsafe(settings)
    return settings


def _limits(config: Config, d: Settings) -> dict[str, Any]:
    """Those of the limits that an operator may set."""
    return {
        "rate_limits": _switch(config, "RATE_LIMITS", d.rate_limits),
        "requests_per_window": _number(config, "REQUESTS_PER_WINDOW", d.requests_per_window),
        "cost_per_window": _number(config, "COST_PER_WINDOW", d.cost_per_window),
        "stalled_reader_s": _decimal(config, "STALLED_READER", d.stalled_reader_s),
        "firmware_max_bytes": _number(config, "FIRMWARE_MAX_BYTES", d.firmware_max_bytes),
        "upload_max_bytes": _number(config, "UPLOAD_MAX_BYTES", d.upload_max_bytes),
        "event_data_max_bytes": _number(config, "EVENT_DATA_MAX", d.event_data_max_bytes),
        "event_rate_per_s": _decimal(config, "EVENT_RATE", d.event_rate_per_s),
        "event_burst": _number(config, "EVENT_BURST", d.event_burst),
        "device_connects_per_s": _decimal(config, "DEVICE_CONNECTS", d.device_connects_per_s),
        "call_timeout_s": _decimal(config, "CALL_TIMEOUT", d.call_timeout_s),
        "log_retention_s": _number(config, "LOG_RETENTION", d.log_retention_s),
        "log_max_rows": _number(config, "LOG_MAX_ROWS", d.log_max_rows),
    }


def _refuse_unsafe(settings: Settings) -> None:
    _refuse_unsafe_billing(settings)
    if not settings.is_sqlite and not settings.database_url.startswith(("postgres://", "postgresql://")):
        raise SettingsRefused("DATABASE_URL must begin with postgres:// or be unset for SQLite in FLOTILLA_DATA_DIR.")
    if settings.blob_presigned and not settings.blob_url:
        raise SettingsRefused("BLOB_PRESIGNED=on needs BLOB_URL, a bucket: a folder can't be fetched from without us.")
    if settings.trusted_documents_only and settings.trusted_documents is None:
        raise SettingsRefused("TRUSTED_DOCUMENTS_ONLY=on needs TRUSTED_DOCUMENTS, the file that names them.")
    if not all(re.fullmatch(r"https?://[^/*\s]+", origin) for origin in settings.allowed_origins):
        raise SettingsRefused("ALLOWED_ORIGINS is a list of whole origins such as https://app.example.com, with commas; * is none.")
    if len(settings.secret_key) < 32:
        raise SettingsRefused(
            "SECRET_KEY must be at least 32 characters of chance, the same in every process; unset, one is made and kept."
        )
    if settings.cost_per_window < settings.query_cost_max:
        raise SettingsRefused(f"COST_PER_WINDOW must be at least {settings.query_cost_max}, what one operation may cost.")
    if not 1 <= settings.event_data_max_bytes <= 16384:
        raise SettingsRefused("EVENT_DATA_MAX must be between 1 and 16384 bytes.")


def _billing(config: Config, d: Settings) -> str:
    """The mode, in small letters; in production it has no default: nobody is to be billed, or not billed, by accident."""
    mode = config("BILLING", default="").lower()
    if not mode and _switch(config, "PRODUCTION", d.production):
        raise SettingsRefused("PRODUCTION=on needs BILLING=stripe with STRIPE_API_KEY and STRIPE_WEBHOOK_SECRETS, or BILLING=off.")
    return mode or d.billing


def _refuse_unsafe_billing(settings: Settings) -> None:
    """Source: billing, "Modes and refusal to start"."""
    key = settings.stripe_api_key
    if settings.billing not in ("stripe", "sandbox", "off"):
        raise SettingsRefused("BILLING must be stripe, sandbox or off.")
    if settings.billing == "stripe":
        if not key or not settings.stripe_webhook_secrets:
            raise SettingsRefused("BILLING=stripe needs STRIPE_API_KEY and STRIPE_WEBHOOK_SECRETS (whsec_…, several with commas).")
        if not key.startswith(("sk_live_", "rk_live_", "sk_test_", "rk_test_")):
            raise SettingsRefused("STRIPE_API_KEY must be a secret or restricted key: it begins with sk_ or rk_.")
        if settings.production and "_test_" in key[:8]:
            raise SettingsRefused("STRIPE_API_KEY is a test key: in production nobody would pay. Use a live key, or BILLING=off.")
    elif key.startswith(("sk_live_", "rk_live_")):
        raise SettingsRefused(f"STRIPE_API_KEY is a live key, but BILLING={settings.billing} charges nobody: unset one of the two.")
    if settings.billing == "sandbox" and settings.production:
        raise SettingsRefused("BILLING=sandbox is for trying things out: in production use BILLING=stripe, or BILLING=off.")
    if settings.billing_max_retries < 0 or not 0 <= settings.billing_trial_days <= 730:
        raise SettingsRefused("BILLING_MAX_RETRIES is 0 or more, BILLING_TRIAL_DAYS from 0 to 730.")


def _list(config: Config, name: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in config(name, default="").split(",") if entry.strip())


def _kept_secret(data_dir: Path) -> str:
    """The data folder's own secret, made at the first start; processes on several machines need a common SECRET_KEY."""
    path = data_dir / "secret_key"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        fresh = data_dir / f".secret_key.{os.getpid()}"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        with suppress(FileExistsError):  # another process was faster: its secret counts
            path.hardlink_to(fresh)
        fresh.unlink()
    return path.read_text()


def _path(config: Config, name: str) -> Path | None:
    text = config(name, default="")
    return Path(text).absolute() if text else None


def _number(config: Config, name: str, default: int) -> int:
    text = config(name, default=str(default))
    try:
        return int(text)
    except ValueError:
        raise SettingsRefused(f"{name} must be a whole number.") from None


def _decimal(config: Config, name: str, default: float) -> float:
    text = config(name, default=str(default))
    try:
        return float(text)
    except ValueError:
        raise SettingsRefused(f"{name} must be a number.") from None


def _switch(config: Config, name: str, default: bool) -> bool:
    text = config(name, default="on" if default else "off").lower()
    if text not in ("on", "off"):
        raise SettingsRefused(f"{name} must be on or off.")
    return text == "on"
