"""Doors of rollouts: starting and steering them, their stages, and their progress."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet import scope
from fleet.rollouts import shares, steering
from fleet.rollouts.steering import Counts, Stage, Terms
from fleet.rollouts.windows import Weekday, Window
from models.account import User
from models.device import DeviceGroup
from models.firmware import Firmware
from models.global_ids import number_of
from models.product import Product
from models.rollout import Rollout, RolloutStage, RolloutState
from resolvers.context import Context
from resolvers.paging import Order, Page, Slice, page

Answer = Mapping[str, Any]


async def start_rollout(context: Context, *, product_id: int, version: int, group: str | None = None, **terms: Any) -> Answer:
    firmware = await scope.firmware(context.viewer, product_id, version)
    team = await scope.group(context.viewer, firmware.product, group) if group is not None else None
    return {"rollout": await steering.start_rollout(firmware, group=team, terms=_terms(**terms), house=context.house, by=context.viewer)}


async def approve_rollout(context: Context, *, id: str, break_glass: str | None = None) -> Answer:
    rollout, house = await _reached(context, id), context.house
    return {"rollout": await steering.approve_rollout(rollout, break_glass=break_glass, house=house, by=context.viewer)}


async def pause_rollout(context: Context, *, id: str) -> Answer:
    return {"rollout": await steering.pause_rollout(await _reached(context, id), by=context.viewer)}


async def resume_rollout(context: Context, *, id: str) -> Answer:
    return {"rollout": await steering.resume_rollout(await _reached(context, id), by=context.viewer)}


async def abort_rollout(context: Context, *, id: str) -> Answer:
    return {"rollout": await steering.abort_rollout(await _reached(context, id), by=context.viewer)}


async def _reached(context: Context, id: str) -> Rollout:
    return await scope.rollout(context.viewer, number_of("Rollout", id))


def _terms(
    *,
    stages: list[Any],
    max_in_flight: int,
    needs_approval: bool | None = None,
    jitter_seconds: int | None = None,
    window: Any | None = None,
    roll_back_on_halt: bool | None = None,
    force_updates: bool | None = None,
    plan_token: str | None = None,
) -> Terms:
    asked = [Stage(stage.percent, stage.devices, stage.max_failure_percent, stage.healthy_for_seconds) for stage in stages]
    opens = Window.of(window.from_, window.to, window.time_zone, window.days or None) if window is not None else None
    return Terms(
        asked, max_in_flight, bool(needs_approval), jitter_seconds or 0, opens, bool(roll_back_on_halt), bool(force_updates), plan_token
    )


# ── reading ──
async def by_id(context: Context, id: str) -> Rollout:
    return await scope.readable_rollout(context.viewer, number_of("Rollout", id))


async def rollouts(product: Product, context: Context, first: int | None, after: str | None) -> Page[Rollout]:
    context.viewer.must("rollout.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
    found = Rollout.filter(product_id=product.id)
    return await page(found, Slice.of(first, after), list_name=f"rollouts:{product.id}", order=Order(descending=True))


async def rollout_progress(context: Context, *, rollout_id: str) -> AsyncGenerator[Rollout, None]:
    rollout = await scope.readable_rollout(context.viewer, number_of("Rollout", rollout_id, path=("rolloutId",)), field="rolloutId")
    return _progress(rollout, context)


async def _progress(rollout: Rollout, context: Context) -> AsyncGenerator[Rollout, None]:
    async for now in steering.follow(rollout.id, house=context.house, by=context.viewer):
        await context.look_again()  # whoever may not see it any more is refused here, and the stream ends
        await scope.readable_rollout(context.viewer, rollout.id)
        yield now


async def product_of(rollout: Rollout, context: Context) -> Product | None:
    return await context.loaders.products.load(rollout.product_id)  # type: ignore[attr-defined]  # a Tortoise column


async def firmware_of(rollout: Rollout, context: Context) -> Firmware | None:
    return await context.loaders.firmwares.load(rollout.firmware_id)  # type: ignore[attr-defined]  # a Tortoise column


async def group_of(rollout: Rollout, context: Context) -> DeviceGroup | None:
    return await context.loaders.groups.load(rollout.group_id)  # type: ignore[attr-defined]  # a Tortoise column


async def approved_by(rollout: Rollout, context: Context) -> User | None:
    return await context.loaders.users.load(rollout.approved_by_id)  # type: ignore[attr-defined]  # a Tortoise column


def jitter_seconds(rollout: Rollout, context: Context) -> int:
    return rollout.jitter_s


def force_updates(rollout: Rollout, context: Context) -> bool:
    return bool(rollout.forces)


def roll_back_on_halt(rollout: Rollout, context: Context) -> bool:
    return rollout.rolls_back


@dataclass(frozen=True, slots=True)
class StageInNumbers:
    """A stage with the counts of its devices."""

    percent: int
    devices: int | None
    max_failure_percent: int
    healthy_for_seconds: int
    state: RolloutState
    targeted: int
    in_flight: int
    succeeded: int
    failed: int


async def stages(rollout: Rollout, context: Context) -> list[StageInNumbers]:
    counts, found = await context.loaders.rollout_counts.load(rollout.id), await context.loaders.rollout_stages.load(rollout.id)
    return [_in_numbers(stage, counts.get(stage.number, Counts())) for stage in found]


def _in_numbers(stage: RolloutStage, of: Counts) -> StageInNumbers:
    percent = stage.percent if stage.percent is not None else shares.percent_of(stage.reach)
    asked = percent, stage.devices, stage.max_failure_percent, stage.healthy_for_s
    return StageInNumbers(*asked, RolloutState(stage.state), stage.targeted, of.in_flight, of.succeeded, of.failed)


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A window as it was asked for."""

    from_: str
    to: str
    time_zone: str
    days: list[Weekday]


def window(rollout: Rollout, context: Context) -> OpenWindow | None:
    kept = rollout.window
    return OpenWindow(kept["from"], kept["to"], kept["timeZone"], [Weekday(day) for day in kept["days"]]) if kept else None
