"""What billing has to say, said: mails to those who manage an organization's billing, and an entry in its audit."""

from dataclasses import dataclass, field

from auth.sealing import Sealer
from auth.viewer import Viewer
from billing.till import Notice
from fleet import jobs
from fleet.auditing import record
from fleet.billing_letters import letter
from models.organization import BillingState, Member, Organization, Role

MANAGERS = (Role.OWNER.value, Role.ADMIN.value)


@dataclass(frozen=True, slots=True)
class BillingNews:
    """billing.till.Teller: both are called inside the transaction in which it became so."""

    sealer: Sealer
    public_url: str
    by: Viewer = field(default_factory=lambda: Viewer.house("billing"))  # whose act makes the state move

    async def tell(self, organization: Organization, notice: Notice) -> None:
        members = Member.filter(organization_id=organization.id, role__in=MANAGERS).select_related("user").order_by("id")
        for member in await members:
            mail = letter(member.user.email, notice, organization=organization.name, slug=organization.slug, public_url=self.public_url)
            await jobs.mail(mail, self.sealer)

    async def moved(self, organization: Organization, before: BillingState, after: BillingState) -> None:
        subject = f"organization:{organization.slug}"
        await record(self.by, "billing.state_changed", subject, organization_id=organization.id, before=before.value, after=after.value)
