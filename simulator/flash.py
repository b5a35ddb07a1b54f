"""What a device keeps over a restart: its key, what it runs, and the newest order it obeyed; in a small file if it has a path."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from public_keys import from_base64url, to_base64url


@dataclass(slots=True)
class Flash:
    """`key` is an Ed25519 seed of 32 bytes in base64url; a device with a `secret` has no key and proves itself by HMAC."""

    device_id: str
    product_id: int | None = None
    version: int | None = None
    key: str | None = None
    secret: str | None = None
    sequence: int = -1  # of the newest update order; older ones are ignored
    session_id: str | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        self.device_id = self.device_id.lower()
        if self.key is None and self.secret is None:
            self.key = to_base64url(Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def at(cls, path: Path, fresh: "Flash") -> "Flash":
        """What the file at `path` remembers of this device, or `fresh`, kept there from now on."""
        if path.exists():
            kept = cls(**json.loads(path.read_text()), path=path)
            if kept.device_id != fresh.device_id:
                raise ValueError(f"{path} belongs to device {kept.device_id}")
            return kept
        fresh.path = path
        fresh.keep()
        return fresh

    def keep(self) -> None:
        """Whole or not at all, and readable to its owner only: the key is in it."""
        if self.path is None:
            return
        kept = asdict(self)
        del kept["path"]
        beside = self.path.with_name(self.path.name + ".new")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(kept, file, indent=1)
        beside.replace(self.path)

    def private_key(self) -> Ed25519PrivateKey | None:
        return None if self.key is None else Ed25519PrivateKey.from_private_bytes(from_base64url(self.key))
