"""Devices: what is known of one, lists of them, and what can be done to them."""

import strawberry

import resolvers.device as doors
from fleet.devices.listing import DeviceOrder
from models import device as rows
from models.device import DeviceState
from schema.event import DeviceEventFields
from schema.fields import (
    DateTime,
    DeviceID,
    Input,
    KeyedInput,
    Node,
    Payload,
    computed,
    described,
    enumeration,
    id_of,
    mutation,
    optional,
    outcome,
    resolved_by,
    rows_of,
)
from schema.firmware import DeviceFirmwareFields
from schema.lazies import CustomerRef, DeviceGroupRef, ProductRef, UserRef
from schema.platform import Platform
from schema.rejected import RejectedDevice

enumeration(
    DeviceState,
    "How a device stands to its product.",
    ACTIVE="A member of the product.",
    QUARANTINED="It reports the product's id but was never imported: it may do nothing until it is approved.",
    DENIED="Refused by a person, or back after it was removed; it can be approved.",
)
enumeration(
    DeviceOrder,
    "The order of a list of devices; equal ones are ordered by id, and those without the value come last.",
    LAST_HEARD="The one heard of last comes first.",
    DEVICE_ID="By id.",
    NAME="By name.",
    FIRMWARE_VERSION="The highest version comes first.",
    CREATED_AT="The newest comes first.",
)


@strawberry.type(description="A value a device lets be read.")
class Variable:
    name: str = computed(lambda variable: variable["name"], "Its name.")
    type: str = computed(lambda variable: variable["type"], "int, double, string or bool.")


@strawberry.type(description="The hardware.")
class Device(DeviceEventFields, DeviceFirmwareFields, Node):
    is_type_of = rows_of(rows.Device)
    id: strawberry.ID = id_of("Device")
    device_id: DeviceID = described("Its id for life.")
    name: str | None = described("What people call it; null: nothing yet.")
    notes: str | None = resolved_by(doors.notes, "What the team wrote about it; null for everybody else.")
    serial_number: str | None = described("As printed on it; null: unknown.")
    platform: Platform | None = described("The hardware it reports; null until it first connects.")
    product: ProductRef | None = resolved_by(
        doors.product_of, "The product it is in; null for a person's own kit, also while a product you may not see keeps it out."
    )
    state: DeviceState = described("How it stands to its product.")
    development: bool = described("Whether it is used for development: no firmware ever comes by itself, neither released nor locked.")
    owner: CustomerRef | None = resolved_by(doors.owner, "The customer who claimed it; null until then.")
    user_owner: UserRef | None = resolved_by(
        doors.user_owner, "The person whose own kit it is; null for others, and for a stranger's while it is kept out."
    )
    claimed_at: DateTime | None = described("When its owner got it; null without one.")
    online: bool = resolved_by(doors.online, "Whether it is connected.")
    last_heard: DateTime | None = resolved_by(
        doors.last_heard, "When it last said anything; null: never, or not since it is yours, the customer's."
    )
    last_handshake_at: DateTime | None = resolved_by(
        doors.last_handshake_at, "When it last connected; null: never, or not since it is yours, the customer's."
    )
    last_ip_address: str | None = resolved_by(
        doors.last_ip_address, "Where it last connected from; null: never, or not since it is yours, the customer's."
    )
    flapping: bool = resolved_by(doors.flapping, "Whether it connected more than ten times within the hour.")
    reported_product_id: int | None = described("The product its firmware says it is; null until it first connects.")
    forced: bool = described("Whether it is treated as the product's whatever it reports; ends by itself when it reports the product.")
    firmware_version: int | None = described("The version it reports; null until it reports one.")
    groups: list[DeviceGroupRef] = resolved_by(doors.groups, "The groups it was put into, by path; empty for a customer.")
    functions: list[str] = resolved_by(doors.functions, "Names of the functions it offers, as reported.")
    variables: list[Variable] = resolved_by(doors.variables, "Values it lets be read, as reported, by name.")
    created_at: DateTime = described("When it was first imported or registered, or first connected.")


@strawberry.input(description="Which devices; all that is given must fit. At most 100 conditions, nested 10 deep.")
class DeviceFilter:
    and_: list["DeviceFilter"] | None = strawberry.field(name="and", default=strawberry.UNSET, description="All of these fit.")
    or_: list["DeviceFilter"] | None = strawberry.field(name="or", default=strawberry.UNSET, description="At least one of these fits.")
    not_: "DeviceFilter | None" = strawberry.field(name="not", default=strawberry.UNSET, description="This does not fit.")
    search: str | None = optional("Found anywhere in id, name, serial number or notes, literally; A-Z in any case. At most 100 characters.")
    online: bool | None = optional("Whether it is connected.")
    state: DeviceState | None = optional("How it stands to the product.")
    firmware_version: int | None = optional("The version it reports.")
    group: str | None = optional("In this group or one inside it: its path, or its name while only one group bears it.")
    claimed: bool | None = optional("Whether a customer owns it.")
    customer: str | None = optional("Owned by this customer: the user name, or the global id.")
    development: bool | None = optional("Whether it is used for development.")
    locked: bool | None = optional("Whether it is locked to a version.")
    last_heard_before: DateTime | None = optional("Last heard before then; a device never heard does not fit.")
    last_heard_after: DateTime | None = optional("Last heard then or later.")


# ── inputs and payloads ──
@strawberry.input(description="A device and the key it will prove itself with.")
class RegisterDeviceInput(KeyedInput):
    device_id: DeviceID = described("Which device; nobody's becomes your own kit.")
    public_key: str | None = optional("Its Ed25519 key: 32 bytes as base64url without padding. Absent: a secret is made for it.")
    name: str | None = optional("What to call it; absent: as before.")
    rotate: bool | None = optional("Replace the key it has; its session ends. Without this a second, different key is refused.")


@strawberry.type(description="The device, with its key.")
class RegisterDevicePayload(Payload):
    device: Device | None = outcome("The device.")
    secret: str | None = outcome("The secret it signs with, shown this once; null where a public key was given.")


@strawberry.input(description="What to change of a device; what is absent stays, null empties.")
class UpdateDeviceInput(Input):
    device_id: DeviceID = described("Which device.")
    name: str | None = optional("What people call it, at most 100 characters.")
    notes: str | None = optional("What the team should know, at most 10,000 characters.")
    development: bool | None = optional("Whether it is used for development.")


@strawberry.type(description="The device as it is now.")
class UpdateDevicePayload(Payload):
    device: Device | None = outcome("The device.")


@strawberry.input(description="Devices to take out of their product.")
class RemoveDevicesInput(Input):
    device_ids: list[DeviceID] = described("At most 250; they need not be online.")


@strawberry.type(description="Each device is out of its product unless it is in `rejected`.")
class RemoveDevicesPayload(Payload):
    removed: list[DeviceID] = strawberry.field(description="Devices that were removed.", default_factory=list)
    rejected: list[RejectedDevice] = strawberry.field(description="Devices left as they were, such as claimed ones.", default_factory=list)


@strawberry.input(description="Devices that are quarantined or denied.")
class ApproveDevicesInput(Input):
    device_ids: list[DeviceID] = described("At most 250; all of them are approved, or none.")


@strawberry.type(description="The devices, members of their product.")
class ApproveDevicesPayload(Payload):
    devices: list[Device] | None = outcome("The devices.")


@strawberry.input(description="Devices to keep out.")
class DenyDevicesInput(Input):
    device_ids: list[DeviceID] = described("At most 250; all of them are denied, or none.")


@strawberry.type(description="The devices, kept out until they are approved.")
class DenyDevicesPayload(Payload):
    devices: list[Device] | None = outcome("The devices.")


@strawberry.type
class DeviceMutations:
    register_device: RegisterDevicePayload = mutation(
        doors.register_device,
        RegisterDeviceInput,
        RegisterDevicePayload,
        "Make a device your own kit, or give a device of the team a key. Needs DEVELOPER for the team's.",
    )
    update_device: UpdateDevicePayload = mutation(
        doors.update_device, UpdateDeviceInput, UpdateDevicePayload, "Name a device, write notes, mark it. Needs DEVELOPER."
    )
    remove_devices: RemoveDevicesPayload = mutation(
        doors.remove_devices,
        RemoveDevicesInput,
        RemoveDevicesPayload,
        "Take devices out of their product; unclaim them first. One that comes back is DENIED. Needs DEVELOPER.",
    )
    approve_devices: ApproveDevicesPayload = mutation(
        doors.approve_devices,
        ApproveDevicesInput,
        ApproveDevicesPayload,
        "Let devices into the product they report; it may update them at once. A key that nobody of the team stands behind ends. Needs"
        " DEVELOPER.",
    )
    deny_devices: DenyDevicesPayload = mutation(
        doors.deny_devices, DenyDevicesInput, DenyDevicesPayload, "Keep devices out of the product; their sessions end. Needs DEVELOPER."
    )
