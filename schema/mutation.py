"""Everything that can be done."""

import strawberry

from schema.account import AccountMutations
from schema.customer import CustomerMutations
from schema.firmware import FirmwareMutations
from schema.group import GroupMutations
from schema.organization import OrganizationMutations
from schema.product import ProductMutations


@strawberry.type(description="Everything that can be done.")
class Mutation(AccountMutations, CustomerMutations, FirmwareMutations, GroupMutations, OrganizationMutations, ProductMutations):
    pass
