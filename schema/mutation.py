"""Everything that can be done."""

import strawberry

from schema.account import AccountMutations
from schema.organization import OrganizationMutations


@strawberry.type(description="Everything that can be done.")
class Mutation(AccountMutations, OrganizationMutations):
    pass
