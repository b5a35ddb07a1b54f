"""Accounts of people and machines, who the viewer is, and the mutations that concern them alone."""

import strawberry

import resolvers.account as doors
import resolvers.customer
import resolvers.device
from auth.viewer import ViewerKind
from models import account as rows
from schema.fields import (
    AFTER,
    FIRST,
    Connection,
    DateTime,
    Input,
    KeyedInput,
    Node,
    Payload,
    asked,
    described,
    enumeration,
    id_of,
    mutation,
    optional,
    outcome,
    resolved_by,
    rows_of,
)
from schema.lazies import CustomerRef, DeviceRef, InvitationRef, OrganizationRef, ProductRef

enumeration(
    ViewerKind,
    "Who asks.",
    ANONYMOUS="Nobody: no token was sent.",
    USER="A person, or a program with a token of theirs.",
    CUSTOMER="An end user of a product.",
    API_USER="A machine account.",
)


@strawberry.type(description="A token of a person: a log-in session, or an access token made for a program.")
class AccessToken(Node):
    is_type_of = rows_of(rows.Token)
    id: strawberry.ID = id_of("AccessToken")
    name: str = described("As given when it was made; empty for a log-in session.")
    prefix: str = described("Its first characters, to tell it from others; the rest is stored nowhere.")
    scopes: list[str] = described("What it may be used for; empty for a session, which may do whatever the person may.")
    created_at: DateTime = described("When it was made.")
    expires_at: DateTime | None = described("When it ends by itself.")
    last_used_at: DateTime | None = described("When it was last used, exact to a minute; null if never.")


@strawberry.type(description="A person's account.")
class User(Node):
    is_type_of = rows_of(rows.User)
    id: strawberry.ID = id_of("User")
    email: str = described("The address they log in with and are invited by.")
    name: str = described("What people call them.")
    created_at: DateTime = described("When they signed up.")
    organization: OrganizationRef | None = resolved_by(
        doors.organization_of, "Their organization, as far as the viewer shares it; null without one."
    )
    access_tokens: list[AccessToken] = resolved_by(doors.access_tokens, "Their living tokens and sessions; empty for anybody else.")


@strawberry.type(description="A machine account: it has scopes and one token, and never logs in.")
class ApiUser(Node):
    is_type_of = rows_of(rows.ApiUser)
    id: strawberry.ID = id_of("ApiUser")
    name: str = described("What the team calls it.")
    scopes: list[str] = described("What its token may be used for.")
    product: ProductRef | None = resolved_by(doors.product_of, "The one product it may reach; null: all of the organization's.")
    created_at: DateTime = described("When it was made.")


@strawberry.type(description="Whoever sent this request.")
class Viewer:
    kind: ViewerKind = described("Nobody, a person, a customer, or a machine.")
    user: User | None = described("The person; null for everybody else.")
    api_user: ApiUser | None = described("The machine account; null for everybody else.")
    customer: CustomerRef | None = resolved_by(resolvers.customer.own_customer, "The customer; null for everybody else.")
    scopes: list[str] = resolved_by(doors.scopes, "What the token may be used for; empty means all that its owner may do.")
    invitations: list[InvitationRef] = resolved_by(doors.invitations, "Open invitations to the person, to accept or decline.")
    devices: Connection[DeviceRef] = asked(
        resolvers.device.own_devices,
        "A person's own kits, a customer's devices, or all that a machine may see; by id.",
        first=FIRST,
        after=AFTER,
    )


# ── inputs and payloads ──
@strawberry.input(description="A new account.")
class SignUpInput(Input):
    email: str = described("The address to log in with.")
    password: str = described("At least 15 characters, any of them; phrases are welcome.")
    name: str = described("What people call you.")


@strawberry.type(description="The account and its first session.")
class SignUpPayload(Payload):
    token: str | None = outcome("Send it as `Authorization: Bearer …`. Shown once.")
    user: User | None = outcome("The new account.")


@strawberry.input(description="Address and password.")
class LogInInput(Input):
    email: str = described("The address of the account.")
    password: str = described("Its password.")


@strawberry.type(description="A session.")
class LogInPayload(Payload):
    token: str | None = outcome("Send it as `Authorization: Bearer …`. Shown once.")
    expires_at: DateTime | None = outcome("When the session ends by itself.")
    user: User | None = outcome("Who logged in.")


@strawberry.input(description="Nothing is needed.")
class LogOutInput(Input):
    pass


@strawberry.type(description="The token that asked is ended.")
class LogOutPayload(Payload):
    pass


@strawberry.input(description="The old password and a new one.")
class ChangePasswordInput(Input):
    current: str = described("The present password.")
    new: str = described("At least 15 characters.")


@strawberry.type(description="Changed; every other session of the account is ended.")
class ChangePasswordPayload(Payload):
    pass


@strawberry.input(description="Whose password was forgotten.")
class RequestPasswordResetInput(Input):
    email: str = described("The address of the account.")


@strawberry.type(description="The same answer whether the address has an account or not.")
class RequestPasswordResetPayload(Payload):
    pass


@strawberry.input(description="A mailed token and a new password.")
class ResetPasswordInput(Input):
    reset_token: str = described("The token out of the mail; good once, for an hour.")
    new: str = described("At least 15 characters.")


@strawberry.type(description="Set; every session of the account is ended, so log in.")
class ResetPasswordPayload(Payload):
    pass


@strawberry.input(description="A token for a program of yours.")
class CreateAccessTokenInput(KeyedInput):
    name: str = described("What it is for, so that you know it again.")
    scopes: list[str] = described("At least one of `server { scopes }`.")
    expires_at: DateTime | None = optional("At most a year from now; absent: 90 days.")


@strawberry.type(description="The new token.")
class CreateAccessTokenPayload(Payload):
    token: str | None = outcome("The token itself, shown this once.")
    access_token: AccessToken | None = outcome("What is kept of it.")


@strawberry.input(description="One of your tokens.")
class RevokeAccessTokenInput(Input):
    id: strawberry.ID = described("Its global id.")


@strawberry.type(description="The token is ended.")
class RevokeAccessTokenPayload(Payload):
    pass


@strawberry.input(description="A new machine account.")
class CreateApiUserInput(KeyedInput):
    organization: str = described("The organization's slug.")
    name: str = described("What the team calls it.")
    scopes: list[str] = described("At least one of `server { scopes }`.")
    product_id: int | None = optional("The one product it may reach; absent: all.")


@strawberry.input(description="Other scopes for a machine account.")
class UpdateApiUserInput(Input):
    id: strawberry.ID = described("The API user's global id.")
    scopes: list[str] = described("All it shall have from now on.")


@strawberry.type(description="The machine account with its new token.")
class CreateApiUserPayload(Payload):
    api_user: ApiUser | None = outcome("The machine account.")
    token: str | None = outcome("Its only token, shown this once.")


@strawberry.type(description="The machine account with its new token; the old one is ended.")
class UpdateApiUserPayload(CreateApiUserPayload):
    pass


@strawberry.input(description="A machine account.")
class DeleteApiUserInput(Input):
    id: strawberry.ID = described("The API user's global id.")


@strawberry.type(description="Gone, its token with it.")
class DeleteApiUserPayload(Payload):
    pass


@strawberry.type
class AccountMutations:
    sign_up: SignUpPayload = mutation(doors.sign_up, SignUpInput, SignUpPayload, "Open an account and log in.")
    log_in: LogInPayload = mutation(doors.log_in, LogInInput, LogInPayload, "Log in with address and password.")
    log_out: LogOutPayload = mutation(doors.log_out, LogOutInput, LogOutPayload, "End the token that asks.")
    change_password: ChangePasswordPayload = mutation(
        doors.change_password, ChangePasswordInput, ChangePasswordPayload, "Change your password and end your other sessions."
    )
    request_password_reset: RequestPasswordResetPayload = mutation(
        doors.request_password_reset, RequestPasswordResetInput, RequestPasswordResetPayload, "Have a reset token mailed."
    )
    reset_password: ResetPasswordPayload = mutation(
        doors.reset_password, ResetPasswordInput, ResetPasswordPayload, "Set a password by a mailed token."
    )
    create_access_token: CreateAccessTokenPayload = mutation(
        doors.create_access_token, CreateAccessTokenInput, CreateAccessTokenPayload, "Make a token for a program, with scopes."
    )
    revoke_access_token: RevokeAccessTokenPayload = mutation(
        doors.revoke_access_token, RevokeAccessTokenInput, RevokeAccessTokenPayload, "End one of your tokens."
    )
    create_api_user: CreateApiUserPayload = mutation(
        doors.create_api_user, CreateApiUserInput, CreateApiUserPayload, "Make a machine account. Needs ADMIN."
    )
    update_api_user: UpdateApiUserPayload = mutation(
        doors.update_api_user, UpdateApiUserInput, UpdateApiUserPayload, "Change a machine's scopes: new token, old one ends. Needs ADMIN."
    )
    delete_api_user: DeleteApiUserPayload = mutation(
        doors.delete_api_user, DeleteApiUserInput, DeleteApiUserPayload, "End a machine account. Needs ADMIN."
    )
