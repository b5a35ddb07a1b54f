"""What a server process holds open, for the verbs that need more than the database."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from auth.sealing import Sealer
from auth.signed_urls import UrlSigner
from auth.throttle import Throttle
from billing.till import Till
from blobs import Blobs
from fleet.authority import Authorities
from mailer import Mailer
from realtime.named import NamedStreams
from settings import Settings

if TYPE_CHECKING:
    from realtime.commands import Commands
    from realtime.dispatcher import Dispatcher
    from realtime.flusher import Flusher
    from realtime.lease import Lease
    from realtime.wakeup import Wakeup


@dataclass(frozen=True, slots=True)
class House:
    """Opened by app.py at start-up and handed down; a verb takes it only when it needs something of it."""

    settings: Settings
    sealer: Sealer
    signer: UrlSigner
    throttle: Throttle
    mailer: Mailer
    blobs: Blobs
    wakeup: "Wakeup"
    flusher: "Flusher"
    dispatcher: "Dispatcher"
    commands: "Commands"
    process: "Lease"
    till: Till | None = None  # None: billing is off
    authorities: Authorities[Any] = field(default_factory=Authorities)
    named_streams: NamedStreams = field(default_factory=NamedStreams)
