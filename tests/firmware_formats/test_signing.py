"""Signatures of firmware: the exact bytes, who can make them, and what nobody can pass off as one."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from firmware_formats.signing import (
    NoKey,
    Statement,
    is_signed_by,
    new_key,
    private_pem,
    read_private_key,
    sign,
    statement,
)
from public_keys import public_half

ABOUT = Statement(1094, 7, "ab" * 32, 2048, "PHOTON")
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")  # RFC 8032, first test vector
PUBLIC = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def test_what_is_signed_are_these_bytes_and_no_others() -> None:
    assert ABOUT.signed_bytes == (b"flotilla-firmware-1\nproduct 1094\nversion 7\nsha256 " + b"ab" * 32 + b"\nsize 2048\nplatform PHOTON\n")
    assert statement(b"test", product_id=1, version=2, platform="OTHER") == Statement(
        1, 2, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", 4, "OTHER"
    )


def test_the_public_half_of_a_bare_key_is_the_one_of_the_standard() -> None:
    assert public_half(read_private_key(SECRET)) == PUBLIC


def test_a_signature_holds_for_its_statement_and_its_key_alone() -> None:
    key = new_key()
    signature = sign(key, ABOUT)

    assert is_signed_by(public_half(key), signature, ABOUT)
    assert not is_signed_by(public_half(new_key()), signature, ABOUT)
    for other in [
        Statement(1095, 7, "ab" * 32, 2048, "PHOTON"),
        Statement(1094, 8, "ab" * 32, 2048, "PHOTON"),
        Statement(1094, 7, "ac" * 32, 2048, "PHOTON"),
        Statement(1094, 7, "ab" * 32, 2049, "PHOTON"),
        Statement(1094, 7, "ab" * 32, 2048, "P1"),
    ]:
        assert not is_signed_by(public_half(key), signature, other)


def test_a_signature_has_one_spelling() -> None:
    key = new_key()
    signature = sign(key, ABOUT)

    for text in ["", "x", signature + "==", signature[:-1], signature + "A", " " + signature, "ü" * 86, signature[:-1] + "\n"]:
        assert not is_signed_by(public_half(key), text, ABOUT)


def test_a_key_file_is_read_as_it_was_made() -> None:
    key = new_key()

    assert public_half(read_private_key(private_pem(key))) == public_half(key)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(31),
        b"-----BEGIN PRIVATE KEY-----\nnone\n-----END PRIVATE KEY-----\n",
        X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")),
    ],
)
def test_what_is_no_key_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(NoKey):
        read_private_key(raw)
