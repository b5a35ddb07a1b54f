"""Products, and what can be done to them as a whole."""

import strawberry

import resolvers.customer
import resolvers.device
import resolvers.group
import resolvers.importing
import resolvers.oauth
import resolvers.product as doors
import resolvers.rollout
from fleet.devices.listing import DeviceOrder
from models import product as rows
from schema.configuration import Configuration
from schema.customer import Customer, CustomerFilter
from schema.device import DeviceFilter
from schema.event import ProductEventFields
from schema.fields import (
    AFTER,
    BEFORE,
    FIRST,
    LAST,
    Connection,
    DateTime,
    DeviceID,
    Input,
    KeyedInput,
    Node,
    Payload,
    argument,
    asked,
    attribute,
    described,
    id_of,
    mutation,
    optional,
    outcome,
    resolved_by,
    rows_of,
)
from schema.firmware import ProductFirmwareFields
from schema.group import DeviceGroup
from schema.lazies import DeviceRef, ImportRef, OrganizationRef, RolloutRef
from schema.oauth import OAuthClient
from schema.platform import Platform
from schema.role import Role
from schema.summary import FleetSummary


@strawberry.type(description="A fleet with one platform.")
class Product(ProductEventFields, ProductFirmwareFields, Node):
    is_type_of = rows_of(rows.Product)
    id: strawberry.ID = id_of("Product")
    product_id: int = attribute("number", "The number compiled into firmware; unique over the server.")
    slug: str = described("Its name in addresses; unique over the server, never changes.")
    name: str = described("Its name.")
    description: str = described("What it is; may be empty.")
    platform: Platform = described("Its hardware; never changes.")
    organization: OrganizationRef = resolved_by(doors.organization_of, "Whose product it is.")
    created_at: DateTime = described("When it was defined.")
    my_role: Role | None = resolved_by(doors.my_role, "What you may do in it; null for a machine, which has scopes.")
    allow_generic_firmware: bool = described("Whether an imported device that reports its bare platform counts as reporting this product.")
    auto_approve: bool = described("Whether a quarantined device that nobody or a member owns is approved by itself.")
    releases_need_approval: bool = described(
        "Whether a version goes to the fleet only by a rollout that somebody else than its author has approved. Groups may demand it, too."
    )
    locks_without_approval: int = described(
        "While releases need approval: how many devices may be locked to one version on one person's word, those locked to it before among"
        " them. 10 at first: test devices."
    )
    configuration: Configuration = resolved_by(doors.configuration, "What its makers decided, and what is still open.")
    fleet: FleetSummary = resolved_by(doors.fleet, "Its fleet in numbers.")
    groups: list[DeviceGroup] = resolved_by(resolvers.group.groups, "All its groups, those inside others too, by path.")
    group: DeviceGroup | None = asked(
        resolvers.group.group,
        "One group; null if there is none.",
        name=argument(str, "Its path, or its name while only one group bears it."),
    )
    customers: Connection[Customer] = asked(
        resolvers.customer.customers,
        "Its customers, oldest first.",
        first=FIRST,
        after=AFTER,
        filter=argument(CustomerFilter | None, "Which customers; absent: all."),
    )
    device: DeviceRef | None = asked(
        resolvers.device.device_of, "One device; null if there is none.", device_id=argument(DeviceID, "Its id.")
    )
    devices: Connection[DeviceRef] = asked(
        resolvers.device.devices,
        "Its devices, quarantined and denied ones too.",
        first=FIRST,
        after=AFTER,
        last=LAST,
        before=BEFORE,
        filter=argument(DeviceFilter | None, "Which devices; absent: all."),
        order_by=argument(DeviceOrder | None, "In which order; null: LAST_HEARD.", DeviceOrder.LAST_HEARD),
    )
    oauth_clients: list[OAuthClient] = resolved_by(
        resolvers.oauth.oauth_clients, "Apps its customers may log in to with their account here, oldest first. Needs DEVELOPER."
    )
    imports: Connection[ImportRef] = asked(resolvers.importing.imports, "Imports into it, newest first.", first=FIRST, after=AFTER)
    rollouts: Connection[RolloutRef] = asked(resolvers.rollout.rollouts, "Its rollouts, the newest first.", first=FIRST, after=AFTER)


# ── inputs and payloads ──
@strawberry.input(description="A new product.")
class CreateProductInput(KeyedInput):
    organization: str = described("The organization's slug.")
    name: str = described("Its name; the slug is made of it.")
    platform: Platform = described("Its hardware; it can never be changed.")
    description: str | None = optional("What it is, at most 2,000 characters.")


@strawberry.type(description="The product, with its number.")
class CreateProductPayload(Payload):
    product: Product | None = outcome("The product.")


@strawberry.input(description="What to change of a product; what is absent or null stays.")
class UpdateProductInput(Input):
    product_id: int = described("Which product.")
    name: str | None = optional("Its new name; the slug stays.")
    description: str | None = optional("What it is; empty text clears it.")
    allow_generic_firmware: bool | None = optional("Whether an imported device may report its bare platform instead of this product.")
    auto_approve: bool | None = optional("Whether quarantined devices that nobody or a member owns are approved by themselves.")
    releases_need_approval: bool | None = optional(
        "Whether every release needs a second person: releaseFirmware is refused then, a rollout waits for somebody else's approval, and"
        " a lock of more than `locksWithoutApproval` is refused. false needs OWNER, and is told to every owner and admin by mail."
    )
    locks_without_approval: int | None = optional(
        "How many devices one person may lock to a version meanwhile: 0 to 10,000,000. A greater number needs OWNER, and is told likewise."
    )


@strawberry.type(description="The product as it is now.")
class UpdateProductPayload(Payload):
    product: Product | None = outcome("The product.")


@strawberry.input(description="An answer to one question.")
class AnswerInput:
    key: str = described("The question's key.")
    answer: str = described("One of its options, in any case, or up to 2,000 characters where it has none.")


@strawberry.input(description="Answers to questions of the configuration.")
class AnswerQuestionsInput(Input):
    product_id: int = described("Which product.")
    answers: list[AnswerInput] = described("Each question at most once; all are stored, or none.")


@strawberry.type(description="The product with the answers.")
class AnswerQuestionsPayload(Payload):
    product: Product | None = outcome("The product.")


@strawberry.input(description="A product of which every question is answered.")
class StartManufacturingInput(Input):
    product_id: int = described("Which product.")


@strawberry.type(description="The product, being made from now on.")
class StartManufacturingPayload(Payload):
    product: Product | None = outcome("The product.")


@strawberry.input(description="A product.")
class RotateProvisioningKeyInput(Input):
    product_id: int = described("Which product.")


@strawberry.type(description="The new key; the one before it has ended.")
class RotateProvisioningKeyPayload(Payload):
    provisioning_key: str | None = outcome("With it a device proves at first contact that it was made for the product. Shown once.")


@strawberry.type
class ProductMutations:
    create_product: CreateProductPayload = mutation(
        doors.create_product, CreateProductInput, CreateProductPayload, "Define a product. Needs DEVELOPER."
    )
    update_product: UpdateProductPayload = mutation(
        doors.update_product, UpdateProductInput, UpdateProductPayload, "Change a product. Needs DEVELOPER."
    )
    answer_questions: AnswerQuestionsPayload = mutation(
        doors.answer_questions,
        AnswerQuestionsInput,
        AnswerQuestionsPayload,
        "Answer questions of the configuration, for the first time or anew. Needs DEVELOPER.",
    )
    start_manufacturing: StartManufacturingPayload = mutation(
        doors.start_manufacturing,
        StartManufacturingInput,
        StartManufacturingPayload,
        "Say that devices are being made from now on, once. Needs DEVELOPER.",
    )
    rotate_provisioning_key: RotateProvisioningKeyPayload = mutation(
        doors.rotate_provisioning_key,
        RotateProvisioningKeyInput,
        RotateProvisioningKeyPayload,
        "Make the key with which devices introduce themselves at first contact. Needs DEVELOPER.",
    )
