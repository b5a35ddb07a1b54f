"""The proofs of a hello: signatures, codes by a secret, provisioning; and what is no proof at all."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import proofs
from public_keys import from_base64url, is_public_key, public_half, to_base64url

ID = "55ff6d04498b49aabbccdd01"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = public_half(KEY)


def test_the_signed_bytes_are_the_subprotocol_the_nonce_text_and_the_lower_case_id():
    assert proofs.signed_bytes("bm9uY2U", ID.upper()) == b"flotilla.device.v1\nbm9uY2U\n" + ID.encode()


def test_a_signature_proves_for_its_nonce_its_device_and_its_key_only():
    said = proofs.signature(KEY, "n1", ID)
    other = public_half(Ed25519PrivateKey.generate())

    assert proofs.signature_proves(said, PUBLIC, "n1", ID)
    assert not proofs.signature_proves(said, PUBLIC, "n2", ID)
    assert not proofs.signature_proves(said, PUBLIC, "n1", "0" * 24)
    assert not proofs.signature_proves(said, other, "n1", ID)


@pytest.mark.parametrize("said", [None, "", "x", "é", "====", "A" * 86, "A" * 256])
def test_what_is_no_signature_proves_nothing(said):
    assert not proofs.signature_proves(said, PUBLIC, "n1", ID)


@pytest.mark.parametrize("key", ["", "x", "é", "A" * 42, "A" * 44, PUBLIC + "="])
def test_what_is_no_key_proves_nothing_and_is_no_key(key):
    assert not is_public_key(key)
    assert not proofs.signature_proves(proofs.signature(KEY, "n1", ID), key, "n1", ID)


def test_a_mac_is_hmac_sha_256_over_the_same_bytes_with_the_secrets_text():
    raw = hmac.new(b"s3cret", b"flotilla.device.v1\nn1\n" + ID.encode(), hashlib.sha256).digest()
    said = to_base64url(raw)

    assert proofs.mac_proves(said, "s3cret", "n1", ID)
    assert not proofs.mac_proves(said, "s3cret", "n2", ID)
    assert not proofs.mac_proves(said, "other", "n1", ID)
    assert not proofs.mac_proves(None, "s3cret", "n1", ID)
    assert not proofs.mac_proves(proofs.mac("", "n1", ID), "", "n1", ID)


def test_provisioning_covers_the_public_key_text_directly_after_the_signed_bytes():
    raw = hmac.new(b"pk", b"flotilla.device.v1\nn1\n" + ID.encode() + PUBLIC.encode(), hashlib.sha256).digest()
    said = to_base64url(raw)

    assert proofs.provisioning_proves(said, "pk", "n1", ID, PUBLIC)
    assert not proofs.provisioning_proves(said, "pk", "n1", ID, "B" * 43)
    assert not proofs.provisioning_proves(said, "pk", "n2", ID, PUBLIC)
    assert not proofs.provisioning_proves(proofs.provisioning("", "n1", ID, PUBLIC), "", "n1", ID, PUBLIC)


def test_every_nonce_is_32_new_bytes():
    nonces = {proofs.new_nonce() for _ in range(100)}

    assert len(nonces) == 100
    assert {len(from_base64url(nonce)) for nonce in nonces} == {32}
