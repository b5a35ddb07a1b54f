"""Everything that can be done."""

import strawberry

from schema.account import AccountMutations
from schema.billing import BillingMutations
from schema.calling import CallingMutations
from schema.customer import CustomerMutations
from schema.device import DeviceMutations
from schema.event import EventMutations
from schema.firmware import FirmwareMutations
from schema.group import GroupMutations
from schema.importing import ImportMutations
from schema.oauth import OAuthMutations
from schema.organization import OrganizationMutations
from schema.product import ProductMutations
from schema.rollout import RolloutMutations
from schema.signing import SigningMutations


@strawberry.type(description="Everything that can be done.")
class Mutation(
    AccountMutations,
    BillingMutations,
    CallingMutations,
    CustomerMutations,
    DeviceMutations,
    EventMutations,
    FirmwareMutations,
    GroupMutations,
    ImportMutations,
    OAuthMutations,
    OrganizationMutations,
    ProductMutations,
    RolloutMutations,
    SigningMutations,
):
    pass
