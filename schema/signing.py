"""The keys whose signatures an organization trusts on firmware."""

import strawberry

import resolvers.signing as doors
from models import organization as rows
from schema.fields import DateTime, Input, Node, Payload, described, id_of, mutation, outcome, rows_of


@strawberry.type(description="The public half of a key that signs firmware. The private half never leaves its maker.")
class SigningKey(Node):
    is_type_of = rows_of(rows.SigningKey)
    id: strawberry.ID = id_of("SigningKey")
    name: str = described("What people call it.")
    public_key: str = described("Ed25519, 32 bytes in base64url.")
    created_at: DateTime = described("Since when it is trusted.")


# ── inputs and payloads ──
@strawberry.input(description="A key to trust.")
class AddSigningKeyInput(Input):
    organization: str = described("The organization's slug.")
    name: str = described("What to call it, such as where its private half is kept.")
    public_key: str = described("Ed25519, 32 bytes in base64url; `flotilla sign --new-key` prints it.")


@strawberry.type(description="The key, trusted.")
class AddSigningKeyPayload(Payload):
    signing_key: SigningKey | None = outcome("The key.")


@strawberry.input(description="A key to trust no longer.")
class RemoveSigningKeyInput(Input):
    id: strawberry.ID = described("Its global id.")


@strawberry.type(description="The key is gone.")
class RemoveSigningKeyPayload(Payload):
    pass


@strawberry.type
class SigningMutations:
    add_signing_key: AddSigningKeyPayload = mutation(
        doors.add_signing_key,
        AddSigningKeyInput,
        AddSigningKeyPayload,
        "Trust a key: from then on every upload needs a signature by one of the organization's keys. Needs ADMIN.",
    )
    remove_signing_key: RemoveSigningKeyPayload = mutation(
        doors.remove_signing_key,
        RemoveSigningKeyInput,
        RemoveSigningKeyPayload,
        "Trust a key no longer; what it signed stays. Needs ADMIN.",
    )
