"""Scenarios of rollouts: starting, approving, pausing, resuming and aborting."""

from typing import Any

from models.rollout import Rollout
from tests.scenarios.firmware import proven
from tests.scenarios.scenario import Input, mutation, reading, streaming
from tests.scenarios.stage import Stage

STAGES = [{"percent": 100, "maxFailurePercent": 0, "healthyForSeconds": 60}]


async def _terms(stage: Stage) -> dict[str, Any]:
    return {**await proven(stage), "stages": STAGES, "maxInFlight": 1}


async def _started(stage: Stage, **terms: Any) -> Input:
    started = await stage.owner("startRollout", "rollout { id }", **await _terms(stage), **terms)
    return {"id": started["rollout"]["id"]}


@mutation("startRollout")
async def start_rollout(stage: Stage) -> Input:
    return await _terms(stage)


@mutation("approveRollout")
async def approve_rollout(stage: Stage) -> Input:
    """Somebody asked for it who has left since: everybody who may is somebody else."""
    waiting = await _started(stage, needsApproval=True)
    await Rollout.all().update(author_id=None, created_by="user:gone@example.com")
    return waiting


@mutation("pauseRollout")
async def pause_rollout(stage: Stage) -> Input:
    return await _started(stage)


@mutation("resumeRollout")
async def resume_rollout(stage: Stage) -> Input:
    started = await _started(stage)
    await stage.owner("pauseRollout", "clientMutationId", **started)
    return started


@mutation("abortRollout")
async def abort_rollout(stage: Stage) -> Input:
    return await _started(stage)


@reading(
    "planRelease",
    "query ($product: Int!, $version: Int!) { found: planRelease(productId: $product, version: $version)"
    " { token willUpdate alreadyRunning excluded { reason devices } } }",
)
async def plan_release(stage: Stage) -> Input:
    given = await proven(stage)
    return {"product": given["productId"], "version": given["version"]}


@streaming("rolloutProgress", "subscription ($id: ID!) { rolloutProgress(rolloutId: $id) { state } }")
async def rollout_progress(stage: Stage) -> Input:
    return await _started(stage)
