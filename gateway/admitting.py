"""Whether a hello proves who it says it is: by the device's own key or secret, or at first contact by its product's provisioning key."""

import msgspec

from fleet.devices.connecting import Credentials, Refused, Report
from gateway import proofs
from gateway.protocol import Hello
from public_keys import is_public_key


class Proof(msgspec.Struct, frozen=True):
    """`new_key` is to be pinned: nothing was known of the device before."""

    new_key: str | None = None
    vouched_by: int | None = None
    proved_by: str | None = None  # what is stored of the device's own key


def prove(hello: Hello, nonce: str, known: Credentials) -> Proof | Refused | None:
    """None for a proof that is wrong or missing, and for a device of which nothing is known: nobody is told which."""
    vouched_by = known.product_number if _is_vouched_for(hello, nonce, known) else None
    has_credentials = known.public_key is not None or known.secret is not None
    if has_credentials and vouched_by is not None and hello.public_key != known.public_key:
        return Refused.ANOTHER_KEY
    if known.public_key is not None:
        proves = proofs.signature_proves(hello.signature, known.public_key, nonce, hello.device_id)
        return Proof(vouched_by=vouched_by, proved_by=known.public_key) if proves else None
    if known.secret is not None:
        return Proof(proved_by=known.sealed) if proofs.mac_proves(hello.mac, known.secret, nonce, hello.device_id) else None
    return None if vouched_by is None else Proof(hello.public_key, vouched_by)


def report_of(hello: Hello, proof: Proof, address: str | None) -> Report:
    """The hello in the fleet's plain values."""
    return Report(
        device_id=hello.device_id,
        product_id=hello.product_id,
        firmware_version=hello.firmware_version,
        platform=hello.platform,
        serial_number=hello.serial_number,
        functions=hello.functions,
        variables=hello.variables or {},
        address=address,
        claim_code=hello.claim_code,
        new_key=proof.new_key,
        vouched_by=proof.vouched_by,
        proved_by=proof.proved_by,
    )


def _is_vouched_for(hello: Hello, nonce: str, known: Credentials) -> bool:
    key = hello.public_key
    if key is None or known.provisioning_key is None or not is_public_key(key):
        return False
    if hello.signature is not None and not proofs.signature_proves(hello.signature, key, nonce, hello.device_id):
        return False
    return proofs.provisioning_proves(hello.provisioning, known.provisioning_key, nonce, hello.device_id, key)
