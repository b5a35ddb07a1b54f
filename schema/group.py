"""Groups of devices, and what can be done to them."""

import strawberry

import resolvers.group as doors
from models import device as rows
from schema.fields import (
    AFTER,
    FIRST,
    Connection,
    DeviceID,
    Input,
    KeyedInput,
    Node,
    Payload,
    asked,
    described,
    id_of,
    mutation,
    optional,
    outcome,
    resolved_by,
    rows_of,
)
from schema.lazies import ApiUserRef, CustomerRef, DeviceRef, FirmwareRef, MemberRef
from schema.rejected import RejectedDevice


@strawberry.type(description="A named set of a product's devices. What is in a group is in all groups above it, too.")
class DeviceGroup(Node):
    is_type_of = rows_of(rows.DeviceGroup)
    id: strawberry.ID = id_of("DeviceGroup")
    name: str = described("Its own name: a-z, 0-9, - and _.")
    path: str = described('Names from the top down, joined by "/"; unique in the product.')
    parent: "DeviceGroup | None" = resolved_by(doors.parent, "The group it is inside; null at the top.")
    children: list["DeviceGroup"] = resolved_by(doors.children, "The groups right inside it, by name.")
    devices: Connection[DeviceRef] = asked(doors.devices, "Its devices and those of all groups inside it, by id.", first=FIRST, after=AFTER)
    released_firmware: FirmwareRef | None = resolved_by(
        doors.released_firmware, "The version released to this very group; null when none is. Groups above may have one."
    )
    releases_need_approval: bool = described(
        "Whether a version comes to its devices, and those of groups inside it, only by a rollout that somebody else than its author has"
        " approved; a release to the whole product and to groups that share a device with it, too. Groups above and the product may"
        " demand it whatever this says."
    )
    locks_without_approval: int = described(
        "While it demands that: how many of its devices may be locked to one version on one person's word. 0 at first."
    )

    access: list["GroupAccess"] = resolved_by(doors.access, "Who was granted this very group. Needs the scope customers:read.")


@strawberry.type(description="A grant of a group, and with it of all below; exactly one of its fields is not null.")
class GroupAccess:
    member: MemberRef | None = described("A member of the team who is held inside the groups granted to them.")
    customer: CustomerRef | None = described("A customer who sees and uses these devices as if they were their own.")
    api_user: ApiUserRef | None = described("An API user that is held inside the groups granted to it.")


# ── inputs and payloads ──
@strawberry.input(description="A new group.")
class CreateDeviceGroupInput(KeyedInput):
    product_id: int = described("Of which product.")
    name: str = described("1 to 64 characters of a-z, 0-9, - and _; nothing is changed silently.")
    parent: str | None = optional("The group to put it in, as a path; absent: at the top. Groups are at most 8 deep.")


@strawberry.type(description="The new group, still empty.")
class CreateDeviceGroupPayload(Payload):
    group: DeviceGroup | None = outcome("The group.")


@strawberry.input(description="Another name for a group.")
class RenameDeviceGroupInput(Input):
    id: strawberry.ID = described("The group's global id.")
    name: str = described("1 to 64 characters of a-z, 0-9, - and _.")


@strawberry.type(description="The group as it is now; the paths of groups inside it have followed.")
class RenameDeviceGroupPayload(Payload):
    group: DeviceGroup | None = outcome("The group.")


@strawberry.input(description="What to change of a group; what is absent or null stays.")
class UpdateDeviceGroupInput(Input):
    id: strawberry.ID = described("The group's global id.")
    releases_need_approval: bool | None = optional(
        "Whether releases that reach its devices need a second person, and locks of more than `locksWithoutApproval` of them are refused."
        " false needs OWNER, and is told to every owner and admin by mail."
    )
    locks_without_approval: int | None = optional(
        "How many of its devices one person may lock to a version meanwhile: 0 to 10,000,000. A greater number needs OWNER, and is told"
        " likewise."
    )


@strawberry.type(description="The group as it is now.")
class UpdateDeviceGroupPayload(Payload):
    group: DeviceGroup | None = outcome("The group.")


@strawberry.input(description="A group with no groups inside it.")
class DeleteDeviceGroupInput(Input):
    id: strawberry.ID = described("The group's global id.")


@strawberry.type(description="Gone, and with it what was released to it; its devices stay in the product.")
class DeleteDeviceGroupPayload(Payload):
    pass


@strawberry.input(description="Devices for a group.")
class AddDevicesToGroupInput(Input):
    group_id: strawberry.ID = described("The group's global id.")
    device_ids: list[DeviceID] = described("Devices of the group's product, at most 250.")


@strawberry.type(description="The group with the devices; each was added unless it is in `rejected`.")
class AddDevicesToGroupPayload(Payload):
    group: DeviceGroup | None = outcome("The group.")
    rejected: list[RejectedDevice] = strawberry.field(description="Devices that were left as they were.", default_factory=list)


@strawberry.input(description="Devices to take out of a group.")
class RemoveDevicesFromGroupInput(Input):
    group_id: strawberry.ID = described("The group's global id.")
    device_ids: list[DeviceID] = described("Devices of the group's product, at most 250.")


@strawberry.type(description="The group without the devices, of which those in `rejected` are not the product's.")
class RemoveDevicesFromGroupPayload(Payload):
    group: DeviceGroup | None = outcome("The group.")
    rejected: list[RejectedDevice] = strawberry.field(description="Devices that were left as they were.", default_factory=list)


@strawberry.input(description="Whom to grant a group: exactly one of the three.")
class GrantGroupAccessInput(Input):
    group_id: strawberry.ID = described("The group's global id.")
    member_id: strawberry.ID | None = optional("A member who is neither owner nor admin: from now on held inside what was granted.")
    customer_id: strawberry.ID | None = optional("A customer of the group's product: sees and uses these devices without owning them.")
    api_user_id: strawberry.ID | None = optional("An API user: from now on held inside what was granted.")


@strawberry.type(description="The group with the grant.")
class GrantGroupAccessPayload(Payload):
    group: DeviceGroup | None = outcome("The group.")


@strawberry.input(description="From whom to take a grant: exactly one of the three.")
class RevokeGroupAccessInput(Input):
    group_id: strawberry.ID = described("The group's global id.")
    member_id: strawberry.ID | None = optional("A member; with their last grant in the product gone, their role alone decides.")
    customer_id: strawberry.ID | None = optional("A customer, who keeps what they own.")
    api_user_id: strawberry.ID | None = optional("An API user; with its last grant in the product gone, its scopes alone decide.")


@strawberry.type(description="The group without the grant.")
class RevokeGroupAccessPayload(Payload):
    group: DeviceGroup | None = outcome("The group.")


@strawberry.type
class GroupMutations:
    create_device_group: CreateDeviceGroupPayload = mutation(
        doors.create_device_group, CreateDeviceGroupInput, CreateDeviceGroupPayload, "Make a group. Needs DEVELOPER."
    )
    rename_device_group: RenameDeviceGroupPayload = mutation(
        doors.rename_device_group, RenameDeviceGroupInput, RenameDeviceGroupPayload, "Rename a group. Needs DEVELOPER."
    )
    update_device_group: UpdateDeviceGroupPayload = mutation(
        doors.update_device_group,
        UpdateDeviceGroupInput,
        UpdateDeviceGroupPayload,
        "Change what a group demands of releases to its devices. Needs DEVELOPER, and OWNER to demand less.",
    )
    delete_device_group: DeleteDeviceGroupPayload = mutation(
        doors.delete_device_group,
        DeleteDeviceGroupInput,
        DeleteDeviceGroupPayload,
        "Delete a group. Needs DEVELOPER, and OWNER if it demands a second person.",
    )
    add_devices_to_group: AddDevicesToGroupPayload = mutation(
        doors.add_devices_to_group,
        AddDevicesToGroupInput,
        AddDevicesToGroupPayload,
        "Put devices into a group; again is no error. Needs DEVELOPER.",
    )
    remove_devices_from_group: RemoveDevicesFromGroupPayload = mutation(
        doors.remove_devices_from_group,
        RemoveDevicesFromGroupInput,
        RemoveDevicesFromGroupPayload,
        "Take devices out of a group, not out of groups inside it; again is no error. Needs DEVELOPER.",
    )
    grant_group_access: GrantGroupAccessPayload = mutation(
        doors.grant_group_access,
        GrantGroupAccessInput,
        GrantGroupAccessPayload,
        "Let a customer into a group, or hold a member or an API user inside it, at once; again is no error."
        " Needs DEVELOPER for customers, ADMIN for the team.",
    )
    revoke_group_access: RevokeGroupAccessPayload = mutation(
        doors.revoke_group_access,
        RevokeGroupAccessInput,
        RevokeGroupAccessPayload,
        "Take a grant back, at once; again is no error. Needs DEVELOPER for customers, ADMIN for the team.",
    )
