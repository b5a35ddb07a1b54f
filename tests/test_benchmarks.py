"""That the benchmarks run; how fast is told by RESULTS.md and never by a test."""

import shutil

import pytest

from bench import querying
from bench.plotting import bars


@pytest.mark.skipif(shutil.which("cc") is None, reason="the client of the benchmarks is compiled")
@pytest.mark.parametrize(("database", "beside"), [("postgres", "bare"), ("sqlite", "stock")])
def test_a_page_is_measured_beside_the_server_of_others(database: str, beside: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--devices", "60", "--rounds", "1", "--seconds", "1", "--connections", "1", "--only", beside, "--dry"]

    querying.main(words, database)

    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in table[2:]] == ["| Flotilla", f"| {querying.peers(database, [beside])[0].name}"]


def test_bars_are_as_long_as_their_values() -> None:
    drawn = bars("Us & them", {"one": 1.0, "two": 2.0})

    assert "Us &amp; them" in drawn
    assert [part.split('"')[0] for part in drawn.split(' width="')[3:]] == ["210", "420"]
