"""How a benchmark's result is kept: ratios within one run, with their spread, as lines and a plot in RESULTS.md."""

import statistics
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

RESULTS = Path(__file__).parent / "RESULTS.md"
WIDTH = 40  # characters of the longest bar
Round = TypeVar("Round")


@dataclass(frozen=True, slots=True)
class Measured:
    """One ratio or rate, by round; `target` is what the design asks of it, in words."""

    name: str
    ratios: tuple[float, ...]
    target: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)


def paired(rounds: Iterable[Round], ratio: Callable[[Round], float]) -> tuple[float, ...]:
    return tuple(ratio(each) for each in rounds)


def write(name: str, work: str, measured: list[Measured], notes: list[str], *, with_: str) -> None:
    """Append a section to RESULTS.md, and print it."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    longest, widest = max(each.median for each in measured), max(len(each.name) for each in measured)
    bars = [
        f"{each.name:<{widest}}  {'█' * max(1, round(WIDTH * each.median / longest)):<{WIDTH}}  {_figure(each.median)}"
        f" ({_figure(min(each.ratios))} … {_figure(max(each.ratios))}){'  ' + each.target if each.target else ''}"
        for each in measured
    ]
    text = "\n".join(
        [
            f"## {name}, {datetime.now(UTC):%Y-%m-%d}, {commit}",
            "",
            f"{work}. {with_}.",
            "",
            "```",
            *bars,
            "```",
            "",
            *(f"- {each}" for each in notes),
        ]
    )
    with RESULTS.open("a") as results:
        results.write(f"\n{text}\n")
    print(text)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"
