"""The roles of a team, known to the schema before whoever has one."""

from models.organization import Role
from schema.fields import enumeration

__all__ = ["Role"]

enumeration(
    Role,
    "What a member may do in the organization, or in one product in place of that, strongest first."
    " Each includes what the weaker ones may.",
    OWNER="Makes and unmakes owners, waives a second person. An organization keeps at least one.",
    ADMIN="The team, machine accounts, billing and the audit; in one product: its OAuth clients.",
    DEVELOPER="Products, devices, groups, firmware and customers.",
    SUPPORT="Calls functions, reads variables and pings devices.",
    VIEWER="Reads.",
    NONE="Sees nothing: of the organization only its name and the products with a role of their own; of a product nothing at all.",
)
