"""Firmware, what is released and why a device runs what it runs, and each try to bring a device to a version."""

import strawberry
from strawberry.file_uploads import Upload

import resolvers.firmware as doors
from firmware_formats.platforms import FirmwareFormat
from fleet.firmware.deciding import FirmwareRule
from fleet.firmware.locking import FlashWhen
from models import firmware as rows
from models.firmware import UpdateState
from schema.account import User
from schema.fields import (
    AFTER,
    FIRST,
    URL,
    Connection,
    DateTime,
    DeviceID,
    Input,
    KeyedInput,
    Node,
    Payload,
    argument,
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
from schema.lazies import DeviceGroupRef, DeviceRef, ProductRef
from schema.rejected import RejectedDevice

enumeration(
    FirmwareFormat,
    "How a binary was read.",
    PARTICLE="A module for Particle's platforms.",
    ESP32="An ESP-IDF application image.",
    MCUBOOT="An MCUboot image.",
    FWUP="A fwup archive.",
    OPAQUE="Not read: taken as it is, and never verified.",
)
enumeration(
    FirmwareRule,
    "The rules that decide what a device should run, the highest precedence first.",
    NOT_ALLOWED="It is not active, or reports another product, or another platform: it gets nothing.",
    DEVELOPMENT="It is marked for development: nothing automatic, only flashing by hand.",
    LOCKED="It is locked to a version.",
    ROLLOUT="A running rollout has reached it.",
    GROUP_RELEASE="A version is released to a group it is in, or to one above; the highest of several.",
    PRODUCT_RELEASE="A version is released to the product.",
    NONE="Nothing is released that it should run.",
)
enumeration(
    UpdateState,
    "How far an update is.",
    PENDING="It waits to be offered: for the device's next hello, or until the device takes updates.",
    OFFERED="The device was told to fetch it.",
    DOWNLOADING="The device is fetching it.",
    INSTALLING="The device has it, and is restarting into it.",
    SUCCEEDED="The device came back and reported the version.",
    FAILED="The device said so, came back with another version, or was not heard of in time. It may be tried again.",
    CANCELED="Something else was decided meanwhile.",
    BLOCKED="It failed too often; nothing is offered until `blockedUntil`, or unblockUpdates.",
)
enumeration(
    FlashWhen,
    "When locked devices are brought to their version.",
    NOW="At once; refuses devices that are not connected.",
    ON_RESET="At each device's next hello.",
)


@strawberry.type(description="One uploaded binary of a product.")
class Firmware(Node):
    is_type_of = rows_of(rows.Firmware)
    id: strawberry.ID = id_of("Firmware")
    product: ProductRef = resolved_by(doors.product_of, "Whose it is.")
    version: int = described("1 to 65534; greater than every one uploaded before.")
    display_version: str | None = described("What the file says of itself, where that is text; null when it says nothing.")
    title: str = described("What people call it; distinct in the product.")
    description: str = described("How it differs; may be empty.")
    format: FirmwareFormat = described("How the binary was read.")
    verified: bool = described("Whether the binary itself names this product and this version.")
    file_name: str = described("What the uploaded file was called.")
    size: int = described("In bytes.")
    sha256: str = described("Of its bytes, in hexadecimal.")
    signed: bool = resolved_by(doors.signed, "Whether a detached signature came with it.")
    uploaded_at: DateTime = described("When it was uploaded.")
    uploaded_by: User | None = resolved_by(doors.uploaded_by, "Who uploaded it; null for a machine, or an account that is gone.")
    releasable: bool = resolved_by(
        doors.releasable, "Whether an active device of the product runs it now, and its file is sound: the gate of a release."
    )
    not_releasable_because: str | None = resolved_by(doors.not_releasable_because, "What is missing; null when it can be released.")
    released: bool = resolved_by(doors.released, "Whether it is released now, to the product or to a group.")
    released_at: DateTime | None = described("When it was first released; null if it never was.")
    groups: list[DeviceGroupRef] = resolved_by(doors.groups, "The groups it is released to now, by path.")
    damaged_at: DateTime | None = described(
        "When the stored file was found to be another than was uploaded: it is offered to nobody until the same file is uploaded under"
        " the same version again. Null while it is sound."
    )
    running_on: int = resolved_by(doors.running_on, "How many devices of the product report it now.")
    download_url: URL = resolved_by(doors.download_url, "Where to fetch the file; good for 15 minutes, for whoever has it.")


@strawberry.type(description="What a device should run, and why.")
class FirmwareDecision:
    target: Firmware | None = resolved_by(doors.target, "The version it should run; null when the rule has none.")
    rule: FirmwareRule = described("The first rule that fits.")
    because: list[str] = described("Every rule looked at, in order, with its reason.")


@strawberry.type(description="One try to bring a device to a version.")
class Update(Node):
    is_type_of = rows_of(rows.Update)
    id: strawberry.ID = id_of("Update")
    device: DeviceRef = resolved_by(doors.device_of, "Which device.")
    firmware: Firmware = resolved_by(doors.firmware_of, "To which version.")
    state: UpdateState = described("How far it is.")
    progress: int = described("Percent of the download.")
    attempt: int = described("How often it was offered.")
    error: str | None = described("What went wrong last; null if nothing did.")
    started_at: DateTime = described("When it was decided.")
    finished_at: DateTime | None = described("When it ended, one way or the other; null while it is under way.")
    blocked_until: DateTime | None = resolved_by(
        doors.blocked_until, "Until when the device is offered nothing; null if it is not blocked."
    )


@strawberry.type
class ProductFirmwareFields:
    """What a Product says of its firmware."""

    firmware: Firmware | None = asked(doors.firmware, "One version; null if there is none.", version=argument(int, "Which."))
    firmwares: Connection[Firmware] = asked(doors.firmwares, "All versions, the newest first.", first=FIRST, after=AFTER)
    released_firmware: Firmware | None = resolved_by(
        doors.released_firmware, "What is released to the whole product; null until something is."
    )


@strawberry.type
class DeviceFirmwareFields:
    """What a Device says of its firmware."""

    firmware: Firmware | None = resolved_by(
        doors.firmware_of_device, "The firmware it proved to run, at an authenticated hello as this product; null until it did."
    )
    desired_firmware_version: int | None = described("The version it is locked to; null if it is not locked.")
    firmware_decision: FirmwareDecision = resolved_by(doors.decision, "What it should run, and why.")
    update: Update | None = resolved_by(doors.update, "The update under way, or the last one; null before the first.")
    updates: Connection[Update] = asked(doors.updates, "All its updates, the newest first.", first=FIRST, after=AFTER)


# ── inputs and payloads ──
@strawberry.input(description="A new version.")
class UploadFirmwareInput(KeyedInput):
    product_id: int = described("Of which product; the same number must be compiled into the binary.")
    version: int | None = optional("The version compiled into the binary; absent: the file's own.")
    title: str = described("1 to 100 characters, distinct in the product: how it differs from the others.")
    description: str | None = optional("More about it.")
    binary: Upload = described("The file, in a multipart request.")
    signature: str | None = optional(
        "Detached, by a key of the organization: Ed25519 in base64url, as `flotilla sign` makes it. Needed once there is such a key."
    )


@strawberry.type(description="The firmware, as it was read.")
class UploadFirmwarePayload(Payload):
    firmware: Firmware | None = outcome("The firmware.")


@strawberry.input(description="Another title or description; what is absent or null stays.")
class UpdateFirmwareInput(Input):
    product_id: int = described("Of which product.")
    version: int = described("Which version.")
    title: str | None = optional("Its new title.")
    description: str | None = optional("Its new description; empty text clears it.")


@strawberry.type(description="The firmware as it is now.")
class UpdateFirmwarePayload(Payload):
    firmware: Firmware | None = outcome("The firmware.")


@strawberry.input(description="A version that was never released and is locked to no device.")
class DeleteFirmwareInput(Input):
    product_id: int = described("Of which product.")
    version: int = described("Which version; the number is never given again.")


@strawberry.type(description="The firmware is gone.")
class DeleteFirmwarePayload(Payload):
    pass


@strawberry.input(description="What to release, and to whom.")
class ReleaseFirmwareInput(KeyedInput):
    product_id: int = described("Of which product.")
    version: int = described("Which version; an older one than before takes devices back to it.")
    group: str | None = optional("Only to this group and those inside it, as a path; absent: to the whole product.")
    plan_token: str | None = optional(
        "The token of planRelease: release only if exactly the same devices would update, and for the same reasons, as in that plan."
    )
    immediate: bool | None = optional("Also to devices that are online, now; else each gets it at its next hello.")
    force_updates: bool | None = optional("Also to devices that put updates off; else theirs are pending until they take updates again.")


@strawberry.type(description="The firmware, released.")
class ReleaseFirmwarePayload(Payload):
    firmware: Firmware | None = outcome("The firmware.")


@strawberry.input(description="Which release to take back.")
class WithdrawReleaseInput(KeyedInput):
    product_id: int = described("Of which product.")
    group: str | None = optional("The group's release, by its path; absent: the product's.")


@strawberry.type(description="The product without that release.")
class WithdrawReleasePayload(Payload):
    product: ProductRef | None = outcome("The product.")


@strawberry.input(description="Which devices to fix to a version, and when.")
class LockAndFlashInput(KeyedInput):
    product_id: int = described("Of which product.")
    firmware_version: int = described("The version to fix them to.")
    when: FlashWhen = described("When to bring them to it.")
    device_ids: list[DeviceID] | None = optional("1 to 250 devices; give these or a group.")
    group: str | None = optional("All devices of this group and those inside it, by its path.")
    force_updates: bool | None = optional("Also if they put updates off; else theirs are pending until they take updates again.")
    break_glass: str | None = optional(
        "Only where it is refused for want of a second person, by an OWNER: why it cannot wait, up to 500 characters. Every owner and"
        " admin gets a mail."
    )


@strawberry.type(description="What was locked, and what was refused.")
class LockAndFlashPayload(Payload):
    devices: list[DeviceRef] | None = outcome("The devices that are locked.")
    rejected: list[RejectedDevice] = strawberry.field(description="Devices left as they were.", default_factory=list)


@strawberry.input(description="Which devices to let go.")
class UnlockDevicesInput(Input):
    product_id: int = described("Of which product.")
    device_ids: list[DeviceID] | None = optional("1 to 250 devices; give these or a group.")
    group: str | None = optional("All devices of this group and those inside it, by its path.")


@strawberry.type(description="Devices that follow releases again.")
class UnlockDevicesPayload(Payload):
    devices: list[DeviceRef] | None = outcome("The devices, none of them locked.")
    rejected: list[RejectedDevice] = strawberry.field(description="Devices left as they were.", default_factory=list)


@strawberry.input(description="Devices that are blocked after too many failures.")
class UnblockUpdatesInput(Input):
    device_ids: list[DeviceID] = described("1 to 250 devices.")


@strawberry.type(description="Devices that may be offered updates again.")
class UnblockUpdatesPayload(Payload):
    devices: list[DeviceRef] | None = outcome("The devices, none of them blocked.")
    rejected: list[RejectedDevice] = strawberry.field(description="Devices left as they were.", default_factory=list)


@strawberry.type
class FirmwareMutations:
    upload_firmware: UploadFirmwarePayload = mutation(
        doors.upload_firmware, UploadFirmwareInput, UploadFirmwarePayload, "Upload a version. Needs DEVELOPER."
    )
    update_firmware: UpdateFirmwarePayload = mutation(
        doors.update_firmware, UpdateFirmwareInput, UpdateFirmwarePayload, "Change title or description. Needs DEVELOPER."
    )
    delete_firmware: DeleteFirmwarePayload = mutation(
        doors.delete_firmware, DeleteFirmwareInput, DeleteFirmwarePayload, "Delete a version that nobody needs. Needs DEVELOPER."
    )
    release_firmware: ReleaseFirmwarePayload = mutation(
        doors.release_firmware,
        ReleaseFirmwareInput,
        ReleaseFirmwarePayload,
        "Release a version that runs on at least one active device. Needs DEVELOPER.",
    )
    withdraw_release: WithdrawReleasePayload = mutation(
        doors.withdraw_release, WithdrawReleaseInput, WithdrawReleasePayload, "Take a release back; it moves nobody. Needs DEVELOPER."
    )
    lock_and_flash: LockAndFlashPayload = mutation(
        doors.lock_and_flash, LockAndFlashInput, LockAndFlashPayload, "Fix devices to a version. Needs DEVELOPER."
    )
    unlock_devices: UnlockDevicesPayload = mutation(
        doors.unlock_devices, UnlockDevicesInput, UnlockDevicesPayload, "Let devices follow releases again. Needs DEVELOPER."
    )
    unblock_updates: UnblockUpdatesPayload = mutation(
        doors.unblock_updates, UnblockUpdatesInput, UnblockUpdatesPayload, "Offer updates again after too many failures. Needs DEVELOPER."
    )
