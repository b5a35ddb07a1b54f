"""Customers, and whose a device is."""

import strawberry

import resolvers.customer as doors
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

enumeration(
    ActivationState,
    "What became of a customer's activation code.",
    UNUSED="It can be spent on claiming a device.",
    USED="It was spent.",
    LOCKED="It was guessed at too often: for 15 minutes after 5 wrong tries in a row, after 10 in all until the team gives out another.",
)


@strawberry.type(description="An end user of one product; owns devices.")
class Customer(Node):
    is_type_of = rows_of(rows.Customer)
    id: strawberry.ID = id_of("Customer")
    username: str = described("The name they are known by; unique in the product, whatever its spelling.")
    external_id: str | None = described("The maker's own key for this person; unique in the product.")
    product: ProductRef = resolved_by(doors.product_of, "The product they are a customer of.")
    devices: Connection[DeviceRef] = asked(doors.devices, "What they own, by id.", first=FIRST, after=AFTER)
    activation: ActivationState | None = resolved_by(doors.activation, "What became of their activation code; null: they have none.")
    created_at: DateTime = described("When the account was made.")
    last_active_at: DateTime | None = resolved_by(
        doors.last_active_at, "When a device of theirs last published or was called; null: never."
    )


@strawberry.input(description="Which customers to list; what is absent does not matter.")
class CustomerFilter:
    search: str | None = optional("Found anywhere in the user name or external id, in any case; taken literally.")
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


# ── inputs and payloads of the team ──
@strawberry.input(description="A new customer.")
class CreateCustomerInput(KeyedInput):
    product_id: int = described("Of which product.")
    username: str = described("The name they are known by, 1 to 254 characters; often an e-mail address.")
    password: str | None = optional("At least 15 characters; absent: nobody can log in with the account yet.")
    external_id: str | None = optional("Your own key for this person.")


@strawberry.type(description="The new customer.")
class CreateCustomerPayload(Payload):
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
    customer_id: strawberry.ID = described("The customer's global id.")


@strawberry.type(description="The device with its new owner.")
class AssignDevicePayload(Payload):
    device: DeviceRef | None = outcome("The device.")


@strawberry.input(description="A device that somebody owns.")
class UnclaimDeviceInput(Input):
    device_id: DeviceID = described("Which device; it need never have connected.")


@strawberry.type(description="The device, owned by nobody.")
class UnclaimDevicePayload(Payload):
    device: DeviceRef | None = outcome("The device; it is still in the product.")


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
    create_customer: CreateCustomerPayload = mutation(
        doors.create_customer, CreateCustomerInput, CreateCustomerPayload, "Make an account for a customer. Needs DEVELOPER."
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
