"""OAuth clients: apps that customers of a product may log in to with their account here."""

import strawberry

import resolvers.oauth as doors
from schema.fields import DateTime, Input, KeyedInput, Payload, described, mutation, optional, outcome, resolved_by


@strawberry.type(description="An app that a product's customers may log in to. Its secret is shown once, when it is made.")
class OAuthClient:
    client_id: str = described("Its public name at /oauth/authorize and /oauth/token.")
    name: str = described("What customers are told it is called when they are asked for their consent.")
    redirect_uri: str = resolved_by(doors.redirect_uri, "The first of its addresses.")
    redirect_uris: list[str] = described("Where codes may be sent: to one of these, character by character.")
    public: bool = resolved_by(doors.is_public, "Whether it runs at its user's, as pages and phone apps do, and so has no secret.")
    scopes: list[str] = described("What it may ask customers for.")
    own_scopes: list[str] = resolved_by(doors.own_scopes, "What it may do without a customer, on every device of the product.")
    created_at: DateTime = described("When it was registered.")


# ── inputs and payloads ──
@strawberry.input(description="A new app.")
class CreateOAuthClientInput(KeyedInput):
    product_id: int = described("Whose customers log in to it; the product's auth_method is OAUTH.")
    name: str = described("What customers are told it is called.")
    redirect_uri: str = described(
        "Where codes are sent, compared character by character: https, http to the customer's own machine, or for a public client"
        " its reversed domain as scheme."
    )
    redirect_uris: list[str] | None = optional("Further such addresses, at most 9: each log-in says which of them it wants.")
    public: bool | None = optional("Whether it runs at its user's and cannot keep a secret; absent: false.")
    scopes: list[str] | None = optional("What it may ask customers for; absent: all that customers have.")
    own_scopes: list[str] | None = optional(
        "What it may do without a customer, by client credentials, on every device of the product: of devices:read, devices:call and"
        " events:read. Absent: nothing. Never for a public one."
    )


@strawberry.type(description="The app's credentials.")
class CreateOAuthClientPayload(Payload):
    client_id: str | None = outcome("Its public name.")
    client_secret: str | None = outcome("Its secret, shown once; null for a public one.")


@strawberry.input(description="What to change of an app; what is absent or null stays.")
class UpdateOAuthClientInput(Input):
    client_id: str = described("Which app.")
    name: str | None = optional("What customers are told it is called.")
    redirect_uris: list[str] | None = optional("Where codes may be sent, in place of all there are: 1 to 10 addresses.")


@strawberry.type(description="The app as it is now.")
class UpdateOAuthClientPayload(Payload):
    client: OAuthClient | None = outcome("The app.")


@strawberry.input(description="An app that has a secret.")
class RotateOAuthClientSecretInput(Input):
    client_id: str = described("Which app.")


@strawberry.type(description="The new secret; the one before it has ended.")
class RotateOAuthClientSecretPayload(Payload):
    client_secret: str | None = outcome("Its secret, shown once.")


@strawberry.input(description="An app.")
class DeleteOAuthClientInput(Input):
    client_id: str = described("Which app.")


@strawberry.type(description="The app is gone, and every token that customers gave it.")
class DeleteOAuthClientPayload(Payload):
    pass


@strawberry.type
class OAuthMutations:
    create_o_auth_client: CreateOAuthClientPayload = mutation(
        doors.create_oauth_client,
        CreateOAuthClientInput,
        CreateOAuthClientPayload,
        "Register an app that customers of a product may log in to. Needs ADMIN.",
    )
    update_o_auth_client: UpdateOAuthClientPayload = mutation(
        doors.update_oauth_client,
        UpdateOAuthClientInput,
        UpdateOAuthClientPayload,
        "Change an app's name, or where codes may go. Needs ADMIN.",
    )
    rotate_o_auth_client_secret: RotateOAuthClientSecretPayload = mutation(
        doors.rotate_oauth_client_secret,
        RotateOAuthClientSecretInput,
        RotateOAuthClientSecretPayload,
        "Give an app a new secret; customers need not consent again. Needs ADMIN.",
    )
    delete_o_auth_client: DeleteOAuthClientPayload = mutation(
        doors.delete_oauth_client,
        DeleteOAuthClientInput,
        DeleteOAuthClientPayload,
        "End an app and every token that customers gave it. Needs ADMIN.",
    )
