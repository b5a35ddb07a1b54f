"""Billing: what a team pays, the card, invoices, and the mutations that change it."""

import strawberry

import resolvers.billing as doors
from fleet.billing.bills import Bill
from models import billing as rows
from models.billing import BillingMode, BillingPlan, CardSetupFlow
from models.organization import BillingState
from schema.fields import (
    AFTER,
    FIRST,
    URL,
    Connection,
    DateTime,
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

enumeration(
    BillingState,
    "How an organization's subscription stands. Devices, customers and what is released go on in every one of them.",
    TRIALING="The free trial runs; nothing has been charged.",
    ACTIVE="Paid.",
    PAST_DUE="A payment failed and will be tried again; the team has access meanwhile.",
    INCOMPLETE="A re-activation waits for the bank's confirmation, at most 23 hours; only billing is open.",
    LOCKED="The card could not be charged and no further attempt will be made; only billing is open.",
    INACTIVE="Ended by choice, or a trial ended without a card; only billing is open.",
    EXEMPT="Nobody is charged.",
)
enumeration(
    BillingMode,
    "Who charges on this server.",
    STRIPE="The payment provider.",
    SANDBOX="A peer of the payment provider inside this server: everything happens, no money moves.",
    OFF="Nobody.",
)
enumeration(
    BillingPlan,
    "What is paid, for each accepted member, in advance.",
    TEAM_MONTHLY="49 dollars a month.",
    TEAM_ANNUAL="588 dollars a year.",
)
enumeration(
    CardSetupFlow,
    "How a card gets to the payment provider; its number never comes here.",
    HOSTED="On a page of the provider: open `hostedUrl`.",
    ELEMENTS="In a form of yours, with the provider's script, `clientSecret` and `publishableKey`.",
)


@strawberry.type(description="The card that is charged.")
class Card:
    brand: str = described('"visa", "mastercard" …')
    last4: str = described("Its last four digits.")
    exp_month: int = described("The month it expires in, 1 to 12.")
    exp_year: int = described("The year it expires in, four digits.")


@strawberry.type(description="One line of an invoice.")
class InvoiceLine:
    description: str = described("What for.")
    amount: int = described("Cents; negative for a credit.")
    quantity: int = described("Seats.")
    proration: bool = described("Whether it makes up for a change within a period.")


@strawberry.type(description="An invoice that is not made yet.")
class InvoicePreview:
    total: int = described("Cents; negative: a credit for the invoice after it.")
    currency: str = described('"usd".')
    due_at: DateTime | None = described("When it would be charged; null where nobody is charged.")
    lines: list[InvoiceLine] = described("What it is made of.")


@strawberry.type(description="An invoice.")
class Invoice(Node):
    is_type_of = rows_of(rows.Invoice)
    id: strawberry.ID = id_of("Invoice")
    number: str | None = described("As printed; null while it is a draft.")
    total: int = described("Cents; negative: a credit.")
    currency: str = described('"usd".')
    status: str = described('"draft", "open", "paid", "uncollectible" or "void".')
    attempts: int = described("How often the card was tried by itself.")
    created_at: DateTime = described("When it was made.")
    hosted_url: URL | None = described("A page to read, print and pay it; null while it is a draft.")
    lines: list[InvoiceLine] = resolved_by(doors.lines, "What it is made of.")


@strawberry.type(description="How an organization pays. Needs ADMIN; open also while the team has no access.")
class Billing:
    is_type_of = rows_of(Bill)
    state: BillingState = described("How the subscription stands; it decides the team's access.")
    mode: BillingMode = described("Who charges.")
    plan: BillingPlan = described("What is paid, or was before the end.")
    seats: int = described("Accepted members; invitations, machines and customers are free.")
    unit_amount: int = described("Cents for a seat and a period.")
    currency: str = described('"usd".')
    trial_ends_at: DateTime | None = described("When the free trial ends or ended; null without one.")
    current_period_end: DateTime | None = described("When the running period ends and the next is charged.")
    cancel_at: DateTime | None = described("When the subscription ends because it was canceled; null: it goes on.")
    access_until: DateTime | None = described("Until when it is paid; moves forward on payment only.")
    failed_attempts: int = described("Failed tries of the open invoice; 0 when nothing is owed.")
    next_payment_attempt: DateTime | None = described("When the card is tried again; null when it is not.")
    card: Card | None = described("The card that is charged; null without one.")
    upcoming_invoice: InvoicePreview | None = resolved_by(
        doors.upcoming_invoice, "The next invoice as things stand; null when nothing will be charged."
    )
    preview: InvoicePreview = asked(
        doors.preview,
        "The next invoice, to the cent, if this were changed now.",
        plan=argument(BillingPlan | None, "Absent: the plan as it is."),
        seats=argument(int | None, "Absent: as many as there are."),
    )
    invoices: Connection[Invoice] = asked(doors.invoices, "All invoices, newest first.", first=FIRST, after=AFTER)


@strawberry.type(description="A card on its way to the payment provider.")
class CardSetup:
    id: strawberry.ID = id_of("CardSetup")
    client_secret: str | None = described("For the provider's script; shown this once. null with HOSTED.")
    publishable_key: str | None = described("For the provider's script; null with HOSTED, and in the sandbox.")
    hosted_url: URL | None = described("The page that takes the card; null with ELEMENTS.")
    expires_at: DateTime = described("Until when it can be used.")


# ── inputs and payloads ──
@strawberry.input(description="A way to give a card.")
class CreateCardSetupInput(KeyedInput):
    flow: CardSetupFlow = described("How.")
    organization: str | None = optional("The organization's slug; absent: for the one you are about to found.")
    return_url: URL | None = optional("Where the hosted page sends you back to; must be on the server's list. Absent: this server.")


@strawberry.type(description="The setup.")
class CreateCardSetupPayload(Payload):
    setup: CardSetup | None = outcome("The setup.")


@strawberry.input(description="A card that has arrived at the provider.")
class UpdateCardInput(KeyedInput):
    organization: str = described("The organization's slug.")
    setup_id: strawberry.ID = described("The card setup it came through.")


@strawberry.type(description="Charged from now on, what is owed at once. CARD_DECLINED beside `billing`: it is kept, but did not pay.")
class UpdateCardPayload(Payload):
    billing: Billing | None = outcome("As it is now.")


@strawberry.input(description="Another plan.")
class ChangePlanInput(KeyedInput):
    organization: str = described("The organization's slug.")
    plan: BillingPlan = described("The plan from now on.")


@strawberry.type(description="What was paid for the rest of the period counts.")
class ChangePlanPayload(Payload):
    billing: Billing | None = outcome("As it is now.")


@strawberry.input(description="The end of a subscription.")
class CancelSubscriptionInput(Input):
    organization: str = described("The organization's slug.")
    reason: str | None = optional("Why, for the provider's records.")


@strawberry.type(description="It ends with the period that is paid for; nothing is deleted.")
class CancelSubscriptionPayload(Payload):
    billing: Billing | None = outcome("As it is now; `cancelAt` says when.")


@strawberry.input(description="The way back.")
class ReactivateSubscriptionInput(Input):
    organization: str = described("The organization's slug.")
    setup_id: strawberry.ID | None = optional("A card setup, to charge another card; absent: the card on file.")
    idempotency_key: str | None = optional("Any text: the same again charges nobody again.")


@strawberry.type(description="Canceled but not over: goes on as before. Over: charged at once, the cycle counted from today.")
class ReactivateSubscriptionPayload(Payload):
    billing: Billing | None = outcome("As it is now.")
    client_secret: str | None = strawberry.field(
        default=None, description="With ACTION_REQUIRED: confirms the payment in the provider's script."
    )
    hosted_url: URL | None = strawberry.field(default=None, description="With ACTION_REQUIRED: the page on which to confirm the payment.")


@strawberry.input(description="An open invoice to charge now.")
class PayOpenInvoiceInput(Input):
    organization: str = described("The organization's slug.")
    idempotency_key: str | None = optional("Any text: the same again charges nobody again.")


@strawberry.type(description="Paid.")
class PayOpenInvoicePayload(Payload):
    billing: Billing | None = outcome("As it is now.")


@strawberry.input(description="What a person does on the hosted page, with a test card.")
class CompleteSandboxCardSetupInput(Input):
    setup_id: strawberry.ID = described("The card setup.")
    payment_method: str = described("A test card's name, never a number: pm_card_visa, pm_card_chargeCustomerFail …")


@strawberry.type(description="The card has arrived.")
class CompleteSandboxCardSetupPayload(Payload):
    setup: CardSetup | None = outcome("The setup.")


@strawberry.input(description="A later time.")
class AdvanceSandboxClockInput(Input):
    organization: str = described("The organization's slug.")
    to: DateTime = described("The organization's billing time from now on.")


@strawberry.type(description="All that fell due until then has happened, mails included.")
class AdvanceSandboxClockPayload(Payload):
    billing: Billing | None = outcome("As it is now.")


@strawberry.type
class BillingMutations:
    create_card_setup: CreateCardSetupPayload = mutation(
        doors.create_card_setup, CreateCardSetupInput, CreateCardSetupPayload, "Begin to give a card. Needs ADMIN, or no organization."
    )
    update_card: UpdateCardPayload = mutation(
        doors.update_card, UpdateCardInput, UpdateCardPayload, "Charge the card of a finished setup from now on. Needs ADMIN."
    )
    change_plan: ChangePlanPayload = mutation(
        doors.change_plan, ChangePlanInput, ChangePlanPayload, "Pay by the month or by the year. Needs ADMIN."
    )
    cancel_subscription: CancelSubscriptionPayload = mutation(
        doors.cancel_subscription, CancelSubscriptionInput, CancelSubscriptionPayload, "End with the period that is paid for. Needs ADMIN."
    )
    reactivate_subscription: ReactivateSubscriptionPayload = mutation(
        doors.reactivate_subscription,
        ReactivateSubscriptionInput,
        ReactivateSubscriptionPayload,
        "Take a cancellation back, or come back after the end. Needs ADMIN.",
    )
    pay_open_invoice: PayOpenInvoicePayload = mutation(
        doors.pay_open_invoice, PayOpenInvoiceInput, PayOpenInvoicePayload, "Charge what is owed now. Needs ADMIN."
    )
    complete_sandbox_card_setup: CompleteSandboxCardSetupPayload = mutation(
        doors.complete_sandbox_card_setup,
        CompleteSandboxCardSetupInput,
        CompleteSandboxCardSetupPayload,
        "Finish a card setup with a test card. Only with BILLING=sandbox.",
    )
    advance_sandbox_clock: AdvanceSandboxClockPayload = mutation(
        doors.advance_sandbox_clock,
        AdvanceSandboxClockInput,
        AdvanceSandboxClockPayload,
        "Move an organization's billing time forward. Only with BILLING=sandbox; needs ADMIN.",
    )
