"""What billing has to say, said: mails to those who manage an organization's billing, and an entry in its audit."""

from dataclasses import dataclass, field

from auth.sealing import Sealer
from auth.viewer import Viewer
from billing.till import Notice
from fleet import alarming
from fleet.auditing import record
from fleet.billing.letters import letter
from models.organization import BillingState, Organization


@dataclass(frozen=True, slots=True)
class BillingNews:
    """billing.till.Teller: both are called inside the transaction in which it became so."""

    sealer: Sealer
    public_url: str
    by: Viewer = field(default_factory=lambda: Viewer.house("billing"))  # whose act makes the state move

    async def tell(self, organization: Organization, notice: Notice) -> None:
        about = {"organization": organization.name, "slug": organization.slug, "public_url": self.public_url}
        await alarming.tell(organization, lambda to: letter(to, notice, **about), sealer=self.sealer)

    async def moved(self, organization: Organization, before: BillingState, after: BillingState) -> None:
        subject = f"organization:{organization.slug}"
        await record(self.by, "billing.state_changed", subject, organization_id=organization.id, before=before.value, after=after.value)
