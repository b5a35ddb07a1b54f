"""Customers, and whose a device is."""

import strawberry
from strawberry.file_uploads import Upload

import resolvers.customer as doors
from errors import ErrorCode
from models import customer as rows
from models.customer import ActivationState
from schema.fields import (
    AFTER,
    FIRST,
    Connection,
    DateTime,
    DeviceID,
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
from schema.lazies import DeviceRef, ProductRef
from schema.oauth import OAuthClient
from schema.summary import SINCE, CustomerUsage

enumeration(
    ActivationState,
    "What became of a customer's activation code.",
    UNUSED="It can be spent on claiming a device.",
    USED="It was spent.",
    LOCKED="It was guessed at too often: for 15 minutes after 5 wrong tries in a row, after 10 in all until the team gives out another.",
)


@strawberry.type(description="What a customer lets an app do, by all their log-ins to it together.")
class Consent:
    client: OAuthClient = described("The app.")
    scopes: list[str] = described("What it may do.")
    given_at: DateTime = described("When they last allowed it something.")


@strawberry.type(description="An end user of one product; owns devices.")
class Customer(Node):
    is_type_of = rows_of(rows.Customer)
    id: strawberry.ID = id_of("Customer")
    username: str = described("The name they are known by; unique in the product, whatever its spelling.")
    external_id: str | None = described("The maker's own key for this person; unique in the product.")
    product: ProductRef = resolved_by(doors.product_of, "The product they are a customer of.")
    devices: Connection[DeviceRef] = asked(doors.devices, "What they own, by id.", first=FIRST, after=AFTER)
    activation: ActivationState | None = resolved_by(doors.activation, "What became of their activation code; null: they have none.")
    email: str | None = described("Where letters go to them; null: nowhere.")
    email_verified_at: DateTime | None = described("When they showed that they read that mail; null: not yet.")
    activation_code: str | None = resolved_by(
        doors.activation_code, "Their activation code, for the team to hand on; null without one, and below DEVELOPER."
    )
    consents: list[Consent] = resolved_by(
        doors.consents, "What they let apps do, by the apps' names. For the team; customers see it on the log-in pages, under /oauth/apps."
    )
    created_at: DateTime = described("When the account was made.")
    last_active_at: DateTime | None = resolved_by(
        doors.last_active_at,
        "When they last used a token, exact to a minute, or a device of theirs last published or was called; null: never.",
    )
    usage: CustomerUsage = asked(doors.usage, "What their devices did.", since=SINCE)


@strawberry.input(description="Which customers to list; what is absent does not matter.")
class CustomerFilter:
    search: str | None = optional("Found anywhere in the user name or external id, in any case; taken literally.")
    external_id: str | None = optional("With exactly this external id.")
    has_device: bool | None = optional("true: only those who own a device; false: only those who own none.")


# ── signing in ──
@strawberry.input(description="A new account of a product whose customers log in by SIMPLE.")
class SignUpCustomerInput(Input):
    product_id: int = described("Of which product.")
    username: str = described("The name they are known by, 1 to 254 characters; often an e-mail address.")
    password: str = described("At least 15 characters, any of them; phrases are welcome.")
    email: str | None = optional("Where letters go; absent: to the user name, if it is an address.")


@strawberry.type(description="The account and its first session.")
class SignUpCustomerPayload(Payload):
    token: str | None = outcome("Send it as `Authorization: Bearer …`. Shown once.")
    expires_at: DateTime | None = outcome("When the session ends by itself.")
    customer: Customer | None = outcome("The new account, or the one that was imported under this name.")


@strawberry.input(description="User name and password of a customer.")
class LogInCustomerInput(Input):
    product_id: int = described("Of which product.")
    username: str = described("The user name, in any spelling.")
    password: str = described("The password.")


@strawberry.type(description="A session.")
class LogInCustomerPayload(Payload):
    token: str | None = outcome("Send it as `Authorization: Bearer …`. Shown once.")
    expires_at: DateTime | None = outcome("When the session ends by itself.")
    customer: Customer | None = outcome("Who logged in.")


@strawberry.input(description="The code out of a letter to a customer.")
class VerifyCustomerEmailInput(Input):
    verification_token: str = described("As it stands in the letter.")


@strawberry.type(description="The address is the customer's.")
class VerifyCustomerEmailPayload(Payload):
    pass


@strawberry.input(description="A customer whose letter was lost.")
class RequestCustomerEmailVerificationInput(Input):
    product_id: int = described("Of which product.")
    username: str = described("The user name.")


@strawberry.type(description="The same whether there is such a customer or not, and whether the address is proved already.")
class RequestCustomerEmailVerificationPayload(Payload):
    pass


@strawberry.input(description="Your password and the next one.")
class ChangeCustomerPasswordInput(Input):
    current: str = described("The password as it is.")
    new: str = described("At least 15 characters, any of them.")


@strawberry.type(description="The password is changed; this session stays, every other and every app's access has ended.")
class ChangeCustomerPasswordPayload(Payload):
    pass


@strawberry.input(description="A customer who has forgotten the password.")
class RequestCustomerPasswordResetInput(Input):
    product_id: int = described("Of which product.")
    username: str = described("The user name.")


@strawberry.type(description="The same whether there is such a customer or not.")
class RequestCustomerPasswordResetPayload(Payload):
    pass


@strawberry.input(description="The code out of a letter, and a new password.")
class ResetCustomerPasswordInput(Input):
    reset_token: str = described("As it stands in the letter.")
    new: str = described("At least 15 characters, any of them.")


@strawberry.type(description="The password is changed; every session of the customer has ended.")
class ResetCustomerPasswordPayload(Payload):
    pass


# ── inputs and payloads of claiming ──
_BY_ID = "For this customer, by global id; for the team. Absent: for you, the customer."
_BY_EXTERNAL_ID = "The same by the maker's own key."


@strawberry.input(description="For whom a claim code is.")
class CreateClaimCodeInput(KeyedInput):
    product_id: int = described("Of which product.")
    activation_code: str | None = optional("Needed in a private beta; the claim spends it.")
    customer_id: strawberry.ID | None = optional(_BY_ID)
    external_id: str | None = optional(_BY_EXTERNAL_ID)


@strawberry.type(description="A code that makes the device which shows it at its hello the customer's. Good once.")
class CreateClaimCodePayload(Payload):
    claim_code: str | None = outcome("What the device shows as `claimCode`. Shown this once.")
    expires_at: DateTime | None = outcome("When it ends unused.")


@strawberry.input(description="A device to claim.")
class ClaimDeviceInput(Input):
    device_id: DeviceID = described("An ACTIVE device of the product that nobody owns; it need not be online.")
    activation_code: str | None = optional("Needed in a private beta, and spent; any case.")
    customer_id: strawberry.ID | None = optional(_BY_ID)
    external_id: str | None = optional(_BY_EXTERNAL_ID)


@strawberry.type(description="The device with its new owner.")
class ClaimDevicePayload(Payload):
    device: DeviceRef | None = outcome("The device.")


# ── inputs and payloads of the team ──
@strawberry.input(description="User names of new customers: in `usernames` or in `file`, exactly one of them.")
class ImportCustomersInput(KeyedInput):
    product_id: int = described("Of which product.")
    usernames: list[str] | None = optional("At most 250.")
    file: Upload | None = optional("A UTF-8 text file with one user name a line, at most 10,000 lines, in a multipart request.")


@strawberry.type(description="A customer with the code that they need for claiming in a private beta.")
class CreatedCustomer:
    customer: Customer = strawberry.field(resolver=lambda root: root, description="The customer.")
    activation_code: str = described("Four characters, unique in the product; any case is taken.")


@strawberry.type(description="A name that made no customer; the others did.")
class RejectedCustomer:
    line: int = described("Which one, counted from 1.")
    username: str = described("As it was given, cut at 100 characters.")
    code: ErrorCode = described("Why, for programs.")
    message: str = described("Why, for people.")


@strawberry.type(description="The new customers, and the names that made none.")
class ImportCustomersPayload(Payload):
    created: list[CreatedCustomer] = strawberry.field(description="In the order of the list.", default_factory=list)
    rejected: list[RejectedCustomer] = strawberry.field(description="Such as names that the product has.", default_factory=list)


@strawberry.input(description="A customer who needs another activation code.")
class ReissueActivationCodeInput(Input):
    customer_id: strawberry.ID = described("The customer's global id.")


@strawberry.type(description="The new code; the old one and its wrong tries are forgotten.")
class ReissueActivationCodePayload(Payload):
    customer: Customer | None = outcome("The customer.")
    activation_code: str | None = outcome("The new code.")


@strawberry.input(description="What a token for a customer may be used for.")
class CreateCustomerTokenInput(KeyedInput):
    customer_id: strawberry.ID = described("The customer's global id.")
    scopes: list[str] = described("Of those a customer token may have, e.g. devices:read; `server { scopes }` lists all.")
    expires_at: DateTime | None = optional("When it ends, at most 90 days from now; absent: in a day.")


@strawberry.type(description="A token of the customer's.")
class CreateCustomerTokenPayload(Payload):
    token: str | None = outcome("Send it as `Authorization: Bearer …`. Shown once.")
    expires_at: DateTime | None = outcome("When it ends by itself.")


@strawberry.input(description="A new customer.")
class CreateCustomerInput(KeyedInput):
    product_id: int = described("Of which product.")
    username: str = described("The name they are known by, 1 to 254 characters; often an e-mail address.")
    password: str | None = optional("At least 15 characters; absent: nobody can log in with the account yet.")
    external_id: str | None = optional("Your own key for this person.")


@strawberry.type(description="The new customer.")
class CreateCustomerPayload(Payload):
    customer: Customer | None = outcome("The customer.")


@strawberry.input(description="What a customer let an app do.")
class EndConsentInput(Input):
    customer_id: strawberry.ID = described("The customer's global id.")
    client_id: str = described("Which app.")


@strawberry.type(description="The customer; the app's tokens of theirs have ended.")
class EndConsentPayload(Payload):
    customer: Customer | None = outcome("The customer.")


@strawberry.input(description="A customer.")
class DeleteCustomerInput(Input):
    id: strawberry.ID = described("The customer's global id.")


@strawberry.type(description="The account is gone with its tokens; the devices stay in the product, owned by nobody.")
class DeleteCustomerPayload(Payload):
    pass


@strawberry.input(description="A device for a customer.")
class AssignDeviceInput(Input):
    device_id: DeviceID = described("An ACTIVE device of the product that nobody owns; it need never have connected.")
    customer_id: strawberry.ID | None = optional("The customer's global id; give this or externalId.")
    external_id: str | None = optional("The customer by the maker's own key.")


@strawberry.type(description="The device with its new owner.")
class AssignDevicePayload(Payload):
    device: DeviceRef | None = outcome("The device.")


@strawberry.input(description="A device that somebody owns.")
class UnclaimDeviceInput(Input):
    device_id: DeviceID = described("Which device; it need never have connected.")
    move_to_group: str | None = optional("Take it out of its groups and put it into this one: its path. For the team.")
    lock_to_version: int | None = optional("Lock it to this firmware, which it gets at its next hello. For the team.")


@strawberry.type(description="The device, owned by nobody.")
class UnclaimDevicePayload(Payload):
    device: DeviceRef | None = outcome("The device, still in the product; null for a customer, who sees nothing of it any more.")


@strawberry.type
class CustomerMutations:
    sign_up_customer: SignUpCustomerPayload = mutation(
        doors.sign_up_customer,
        SignUpCustomerInput,
        SignUpCustomerPayload,
        "Become a customer of a product that keeps its accounts here (SIMPLE), and log in. Nobody needs to be known for it.",
    )
    log_in_customer: LogInCustomerPayload = mutation(
        doors.log_in_customer, LogInCustomerInput, LogInCustomerPayload, "Log in as a customer of a product (SIMPLE)."
    )
    verify_customer_email: VerifyCustomerEmailPayload = mutation(
        doors.verify_customer_email, VerifyCustomerEmailInput, VerifyCustomerEmailPayload, "Show that an address is the customer's."
    )
    request_customer_email_verification: RequestCustomerEmailVerificationPayload = mutation(
        doors.request_customer_email_verification,
        RequestCustomerEmailVerificationInput,
        RequestCustomerEmailVerificationPayload,
        "Have the letter sent once more with which a customer shows that an address is theirs (SIMPLE, OAUTH).",
    )
    change_customer_password: ChangeCustomerPasswordPayload = mutation(
        doors.change_customer_password,
        ChangeCustomerPasswordInput,
        ChangeCustomerPasswordPayload,
        "Change your password, as a customer who has logged in with it (SIMPLE).",
    )
    request_customer_password_reset: RequestCustomerPasswordResetPayload = mutation(
        doors.request_customer_password_reset,
        RequestCustomerPasswordResetInput,
        RequestCustomerPasswordResetPayload,
        "Have a letter sent, in the name of the product's makers, with which a customer sets a new password (SIMPLE).",
    )
    reset_customer_password: ResetCustomerPasswordPayload = mutation(
        doors.reset_customer_password, ResetCustomerPasswordInput, ResetCustomerPasswordPayload, "Set a customer's password by a letter."
    )
    create_claim_code: CreateClaimCodePayload = mutation(
        doors.create_claim_code,
        CreateClaimCodeInput,
        CreateClaimCodePayload,
        "Make the code by which a device becomes the customer's. For the customer, or the team for one; needs DEVELOPER then.",
    )
    claim_device: ClaimDevicePayload = mutation(
        doors.claim_device,
        ClaimDeviceInput,
        ClaimDevicePayload,
        "Take a device. For the customer; for one of theirs by the makers of a SELF_MANAGED product, who need DEVELOPER.",
    )
    import_customers: ImportCustomersPayload = mutation(
        doors.import_customers, ImportCustomersInput, ImportCustomersPayload, "Make customers with activation codes. Needs DEVELOPER."
    )
    reissue_activation_code: ReissueActivationCodePayload = mutation(
        doors.reissue_activation_code,
        ReissueActivationCodeInput,
        ReissueActivationCodePayload,
        "Give a customer another activation code. Needs DEVELOPER.",
    )
    create_customer_token: CreateCustomerTokenPayload = mutation(
        doors.create_customer_token,
        CreateCustomerTokenInput,
        CreateCustomerTokenPayload,
        "Make a token for one customer of a product whose makers log them in (TWO_LEGGED). Needs DEVELOPER.",
    )
    create_customer: CreateCustomerPayload = mutation(
        doors.create_customer, CreateCustomerInput, CreateCustomerPayload, "Make an account for a customer. Needs DEVELOPER."
    )
    end_consent: EndConsentPayload = mutation(
        doors.end_consent,
        EndConsentInput,
        EndConsentPayload,
        "Take back for a customer what they let an app do; its codes and tokens end at once. Needs DEVELOPER.",
    )
    delete_customer: DeleteCustomerPayload = mutation(
        doors.delete_customer, DeleteCustomerInput, DeleteCustomerPayload, "End a customer's account. Needs DEVELOPER."
    )
    assign_device: AssignDevicePayload = mutation(
        doors.assign_device, AssignDeviceInput, AssignDevicePayload, "Give a device to a customer, before shipping too. Needs DEVELOPER."
    )
    unclaim_device: UnclaimDevicePayload = mutation(
        doors.unclaim_device, UnclaimDeviceInput, UnclaimDevicePayload, "Take a device from its owner, as for a return. Needs DEVELOPER."
    )
