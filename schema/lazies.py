"""Names of types that refer to each other across modules, resolved when the schema is built."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

import strawberry

if TYPE_CHECKING:
    from schema.account import ApiUser, User
    from schema.customer import Customer
    from schema.device import Device
    from schema.firmware import Firmware
    from schema.group import DeviceGroup
    from schema.importing import Import
    from schema.organization import Invitation, Member, Organization
    from schema.product import Product
    from schema.rollout import Rollout

UserRef: TypeAlias = Annotated["User", strawberry.lazy("schema.account")]
ApiUserRef: TypeAlias = Annotated["ApiUser", strawberry.lazy("schema.account")]
OrganizationRef: TypeAlias = Annotated["Organization", strawberry.lazy("schema.organization")]
InvitationRef: TypeAlias = Annotated["Invitation", strawberry.lazy("schema.organization")]
MemberRef: TypeAlias = Annotated["Member", strawberry.lazy("schema.organization")]
ProductRef: TypeAlias = Annotated["Product", strawberry.lazy("schema.product")]
DeviceRef: TypeAlias = Annotated["Device", strawberry.lazy("schema.device")]
DeviceGroupRef: TypeAlias = Annotated["DeviceGroup", strawberry.lazy("schema.group")]
FirmwareRef: TypeAlias = Annotated["Firmware", strawberry.lazy("schema.firmware")]
CustomerRef: TypeAlias = Annotated["Customer", strawberry.lazy("schema.customer")]
ImportRef: TypeAlias = Annotated["Import", strawberry.lazy("schema.importing")]
RolloutRef: TypeAlias = Annotated["Rollout", strawberry.lazy("schema.rollout")]
