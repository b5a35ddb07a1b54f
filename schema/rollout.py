"""Staged rollouts: a version on its way to a fleet in stages, which halts by itself when too much fails."""

import strawberry

import resolvers.rollout as doors
from fleet.rollouts.windows import Weekday
from models import rollout as rows
from models.rollout import RolloutState
from schema.account import User
from schema.fields import (
    DateTime,
    Input,
    KeyedInput,
    Node,
    Payload,
    described,
    enumeration,
    id_of,
    mutation,
    optional,
    outcome,
    resolved_by,
    rows_of,
)
from schema.firmware import Firmware
from schema.lazies import DeviceGroupRef, ProductRef

enumeration(
    RolloutState,
    "How a rollout, or one stage of it, stands.",
    DRAFT="A stage that was not reached yet.",
    AWAITING_APPROVAL="It waits for somebody else than its author, for seven days.",
    RUNNING="Devices are being offered the version.",
    PAUSED="It offers the version to nobody further; whoever runs it keeps it.",
    HALTED="Too many devices failed, or the file is damaged: it offers nothing. With `rollBackOnHalt` its devices are going back.",
    ROLLED_BACK="It was halted, and every device it touched runs again what it ran before.",
    FINISHED="The last stage is through, and the version is what is released to the product or group. Of a stage: it is through.",
    ABORTED="A person ended it, nobody approved it in time, or its group was deleted.",
)
enumeration(
    Weekday,
    "A day of the week.",
    **{day.name: f"{day.title()}." for day in Weekday},
)


@strawberry.type(description="A share of the devices, and what it takes to go on behind it.")
class RolloutStage:
    percent: int = described(
        "Up to which percent of all devices it reaches, from the start of the rollout; the last is 100. Of one by `devices` what that"
        " came to, rounded down."
    )
    devices: int | None = described("Up to how many devices it reaches, counted when the rollout began; null where percents say it.")
    max_failure_percent: int = described("The rollout halts when more of the devices targeted than this have failed.")
    healthy_for_seconds: int = described("How long a device has to stay well on the version before it counts as succeeded.")
    state: RolloutState = described("How it stands.")
    targeted: int = described("How many devices it held when it began; those that join later fall into the stage of their place.")
    in_flight: int = described("Devices that were offered the version, or are watched on it, now.")
    succeeded: int = described("Devices that stayed well on it.")
    failed: int = described("Devices that failed and have not succeeded since; some may be under way again.")


@strawberry.type(description="Hours of the day in which a rollout offers; what has begun may end outside of them.")
class RolloutWindow:
    from_: str = strawberry.field(name="from", description='When it opens, on the wall clock: "22:00".')
    to: str = described("When it closes; before `from` it is the next day.")
    time_zone: str = described('The zone of the wall clock: "Europe/Vienna".')
    days: list[Weekday] = described("The days on which it opens.")


@strawberry.type(description="A release in stages.")
class Rollout(Node):
    is_type_of = rows_of(rows.Rollout)
    id: strawberry.ID = id_of("Rollout")
    product: ProductRef = resolved_by(doors.product_of, "Whose devices it is for.")
    firmware: Firmware = resolved_by(doors.firmware_of, "The version.")
    group: DeviceGroupRef | None = resolved_by(doors.group_of, "For whom; null: the whole product, or a group that is gone.")
    state: RolloutState = described("How it stands.")
    stages: list[RolloutStage] = resolved_by(doors.stages, "Its stages, in order.")
    max_in_flight: int = described("How many devices may be under way at a time, in all stages together.")
    jitter_seconds: int = resolved_by(doors.jitter_seconds, "Over how long the devices of a stage are spread from its begin.")
    window: RolloutWindow | None = resolved_by(doors.window, "When it offers; null: at any time.")
    roll_back_on_halt: bool = resolved_by(doors.roll_back_on_halt, "Whether a halt takes its devices back to what they ran before.")
    force_updates: bool = resolved_by(doors.force_updates, "Whether it reaches devices that put updates off; its way back, too.")
    halted_because: str | None = described("Why it was halted, or ended by itself; null if neither happened.")
    created_at: DateTime = described("When it was asked for.")
    created_by: str = described('By whom, as the audit names them: "user:ann@example.com", "api-user:ci".')
    approved_by: User | None = resolved_by(doors.approved_by, "Who approved it; null if nobody did, or had to, or the account is gone.")
    glass_broken_because: str | None = described("Why an owner approved their own rollout; null if nobody did.")


# ── inputs and payloads ──
@strawberry.input(description="A stage of a rollout.")
class RolloutStageInput:
    percent: int | None = strawberry.field(
        description="Up to which percent of all devices, from the start of the rollout; each more, the last stage 100.", default=None
    )
    devices: int | None = strawberry.field(
        description="In place of percent: up to how many devices, from the start of the rollout; each more.", default=None
    )
    max_failure_percent: int = described("Halt when more than this of the devices targeted have failed: 0 halts at the first.")
    healthy_for_seconds: int = described("How long a device has to stay well on the version, up to 604,800.")


@strawberry.input(description="Hours of the day in which a rollout offers.")
class RolloutWindowInput:
    from_: str = strawberry.field(name="from", description='When it opens, on the wall clock: "22:00".')
    to: str = described("When it closes; before `from` it is the next day.")
    time_zone: str = described('The zone of the wall clock: "Europe/Vienna".')
    days: list[Weekday] | None = strawberry.field(description="The days on which it opens; absent: all.", default=None)


@strawberry.input(description="A version, for whom, and how carefully.")
class StartRolloutInput(KeyedInput):
    product_id: int = described("Of which product.")
    version: int = described("Which version; an older one than devices run takes them back to it.")
    group: str | None = optional("Only to this group and those inside it, as a path; absent: to the whole product.")
    stages: list[RolloutStageInput] = described("1 to 20 stages.")
    max_in_flight: int = described("How many devices may be under way at a time: 1 to 10,000.")
    needs_approval: bool | None = optional(
        "Whether somebody else has to approve it before it begins; the product or a group may demand it anyway."
    )
    jitter_seconds: int | None = optional("Spread the devices of each stage over this time from its begin, up to 86,400.")
    window: RolloutWindowInput | None = optional("When to offer; absent: at any time.")
    roll_back_on_halt: bool | None = optional("Whether a halt takes its devices back to what they ran before.")
    force_updates: bool | None = optional("Also devices that put updates off; else theirs are pending until they take updates again.")
    plan_token: str | None = optional("The token of a planRelease of this version there: refused with PLAN_STALE unless that still holds.")


@strawberry.type(description="The rollout.")
class StartRolloutPayload(Payload):
    rollout: Rollout | None = outcome("The rollout.")


@strawberry.input(description="A rollout that waits for an approval.")
class ApproveRolloutInput(Input):
    id: strawberry.ID = described("Its global id.")
    break_glass: str | None = optional(
        "Why you approve your own, because nobody else can in time: 1 to 500 characters. Needs OWNER; the rollout shows it, and every"
        " owner and admin is told by mail."
    )


@strawberry.type(description="The rollout, running.")
class ApproveRolloutPayload(Payload):
    rollout: Rollout | None = outcome("The rollout.")


@strawberry.input(description="A rollout that runs.")
class PauseRolloutInput(Input):
    id: strawberry.ID = described("Its global id.")


@strawberry.type(description="The rollout, paused.")
class PauseRolloutPayload(Payload):
    rollout: Rollout | None = outcome("The rollout.")


@strawberry.input(description="A rollout that is paused.")
class ResumeRolloutInput(Input):
    id: strawberry.ID = described("Its global id.")


@strawberry.type(description="The rollout, running again.")
class ResumeRolloutPayload(Payload):
    rollout: Rollout | None = outcome("The rollout.")


@strawberry.input(description="A rollout that has not ended.")
class AbortRolloutInput(Input):
    id: strawberry.ID = described("Its global id.")


@strawberry.type(description="The rollout, ended.")
class AbortRolloutPayload(Payload):
    rollout: Rollout | None = outcome("The rollout.")


@strawberry.type
class RolloutMutations:
    start_rollout: StartRolloutPayload = mutation(
        doors.start_rollout,
        StartRolloutInput,
        StartRolloutPayload,
        "Release in stages a version that runs on at least one active device. Of a product one rollout is open at a time. Needs DEVELOPER.",
    )
    approve_rollout: ApproveRolloutPayload = mutation(
        doors.approve_rollout,
        ApproveRolloutInput,
        ApproveRolloutPayload,
        "Let somebody else's rollout begin; only a person may. Needs DEVELOPER.",
    )
    pause_rollout: PauseRolloutPayload = mutation(
        doors.pause_rollout, PauseRolloutInput, PauseRolloutPayload, "Offer it to nobody further for now. Needs DEVELOPER."
    )
    resume_rollout: ResumeRolloutPayload = mutation(
        doors.resume_rollout, ResumeRolloutInput, ResumeRolloutPayload, "Go on with a paused rollout. Needs DEVELOPER."
    )
    abort_rollout: AbortRolloutPayload = mutation(
        doors.abort_rollout,
        AbortRolloutInput,
        AbortRolloutPayload,
        "End a rollout. It moves nobody by itself: at its next hello the releases decide for a device. Needs DEVELOPER.",
    )
