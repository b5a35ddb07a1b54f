"""Which firmware a device should run: each rule with its reasons, and every combination against a short oracle."""

from hypothesis import given
from hypothesis import strategies as st

from fleet.firmware.deciding import DeviceFacts, FirmwareRule, GroupRelease, RolloutFacts, decide
from models.rollout import OPEN_ROLLOUT_STATES

OURS = 1094
versions = st.none() | st.integers(1, 4)
every_rollout = st.none() | st.builds(
    RolloutFacts,
    state=st.sampled_from([str(state) for state in OPEN_ROLLOUT_STATES]),
    version=st.integers(1, 4),
    reached=st.booleans(),
    touched=st.booleans(),
    runs_it=st.booleans(),
    former_version=versions,
    rolls_back=st.booleans(),
)
every_fact = st.builds(
    DeviceFacts,
    state=st.sampled_from(["ACTIVE", "QUARANTINED", "DENIED"]) | st.just("ACTIVE"),
    product_id=st.just(OURS) | st.none(),
    product_platform=st.just("PHOTON"),
    allow_generic=st.booleans(),
    said_hello=st.booleans(),
    reported_product_id=st.sampled_from([None, OURS, 6, 2000]),
    platform=st.sampled_from([None, "PHOTON", "P0", "BORON"]),
    forced=st.booleans(),
    development=st.booleans(),
    locked_version=versions,
    rollout=every_rollout,
    group_releases=st.lists(st.builds(GroupRelease, st.sampled_from(["a", "a/b", "c"]), st.integers(1, 4)), max_size=3).map(tuple),
    product_release=versions,
)


def oracle(f: DeviceFacts) -> tuple[str, int | None]:
    ours = not f.said_hello or f.forced or f.reported_product_id == OURS or (f.allow_generic and f.reported_product_id == 6)
    if f.product_id is None or f.state != "ACTIVE" or not ours or f.platform == "BORON":
        return "NOT_ALLOWED", None
    if f.development:
        return "DEVELOPMENT", None
    if f.locked_version:
        return "LOCKED", f.locked_version
    if (r := f.rollout) and (
        (r.state == "RUNNING" and (r.reached or r.touched))
        or (r.state == "PAUSED" and r.touched)
        or (r.state == "HALTED" and r.touched and r.runs_it and not r.rolls_back)
    ):
        return "ROLLOUT", r.version
    if r and r.state == "HALTED" and r.touched and r.rolls_back and r.former_version:
        return "ROLLOUT", r.former_version
    if f.group_releases:
        return "GROUP_RELEASE", max(release.version for release in f.group_releases)
    return ("PRODUCT_RELEASE", f.product_release) if f.product_release else ("NONE", None)


@given(every_fact)
def test_the_first_rule_that_fits_decides(facts: DeviceFacts) -> None:
    decision = decide(facts)

    assert (decision.rule, decision.version) == oracle(facts)
    looked_at = list(FirmwareRule)[: list(FirmwareRule).index(decision.rule) + 1]
    assert [sentence.split(":")[0] for sentence in decision.because] == looked_at
    assert [": yes, " in sentence for sentence in decision.because] == [rule == decision.rule for rule in looked_at]


def test_every_rule_looked_at_says_its_reason() -> None:
    facts = DeviceFacts(
        state="ACTIVE",
        product_id=OURS,
        product_platform="PHOTON",
        said_hello=True,
        reported_product_id=OURS,
        platform="PHOTON",
        group_releases=(GroupRelease("emea", 3), GroupRelease("emea/hospital-7", 5)),
        product_release=7,
    )

    decision = decide(facts)

    assert decision.version == 5
    assert decision.because == (
        "NOT_ALLOWED: no, it is an active device of the product.",
        "DEVELOPMENT: no, it is no development device.",
        "LOCKED: no, it is not locked.",
        "ROLLOUT: no, no rollout is open.",
        "GROUP_RELEASE: yes, version 5 is released to the group emea/hospital-7, the highest among its groups.",
    )


def test_a_device_of_another_platform_is_never_offered_anything_even_by_a_lock() -> None:
    facts = DeviceFacts(
        state="ACTIVE",
        product_id=OURS,
        product_platform="PHOTON",
        said_hello=True,
        reported_product_id=OURS,
        platform="ARGON",
        forced=True,
        locked_version=3,
    )

    decision = decide(facts)

    assert decision.rule == FirmwareRule.NOT_ALLOWED
    assert decision.because == ("NOT_ALLOWED: yes, it reports the platform ARGON, the product's is PHOTON.",)
