"""One server secret, one key for each purpose: what leaks or breaks in one use tells nothing about the others."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derive_key(secret_key: str, purpose: str) -> bytes:
    """The 32-byte key of one `purpose`, e.g. "sealing"; the same secret and purpose give the same key in every process.

    Raises ValueError for an empty secret: settings.from_environment always has one, a hand-made Settings may not.
    """
    if not secret_key:
        raise ValueError("A key cannot be derived from an empty secret_key.")
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"flotilla/{purpose}/v1".encode()).derive(secret_key.encode())
