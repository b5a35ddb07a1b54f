"""The law of the image: what a program can check of the Dockerfile where no engine runs."""

import json
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.laws.house import ROOMS, ROOT

INSTRUCTIONS = re.compile("ARG|CMD|COPY|ENTRYPOINT|ENV|EXPOSE|FROM|HEALTHCHECK|LABEL|RUN|STOPSIGNAL|USER|VOLUME|WORKDIR")


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction and its arguments, continued lines joined, comments gone."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    return [(name, " ".join(rest)) for name, *rest in (line.split() for line in joined.splitlines() if line.strip())]


def faults(text: str, ignored: list[str], root: Path) -> list[str]:
    """What is wrong with the image, one sentence each."""
    lines = instructions(text)
    runs = [rest for name, rest in lines if name == "RUN"]
    found = [f"{name} is no instruction to use" for name, _ in lines if not INSTRUCTIONS.fullmatch(name)]
    found += [f"FROM {rest} floats" for name, rest in lines if name == "FROM" and not re.search(r":\d|@sha256:", rest)]
    found += [f"RUN {rest} fetches" for rest in runs if re.search(r"\b(curl|wget|https?://)", rest)]
    found += [f"RUN {rest} trusts what it installs" for rest in runs if "pip install" in rest and "--require-hashes" not in rest]
    found += [f"COPY {source} does not exist" for source in _copied(lines) if not (root / source).exists()]
    found += [f"COPY {source} is ignored" for source in _copied(lines) if any(fnmatch(source, pattern) for pattern in ignored)]
    return found + _faults_of_the_process(dict(lines))


def _faults_of_the_process(last: dict[str, str]) -> list[str]:
    found = []
    if last.get("USER", "root").split(":")[0] in ("root", "0"):
        found.append("it runs as root")
    if "/healthz" not in last.get("HEALTHCHECK", "") or "python" not in last.get("HEALTHCHECK", ""):
        found.append("nothing asks /healthz, or it is asked by a program the image lacks")
    if not last.get("CMD", "").startswith("["):
        found.append("CMD goes through a shell, which keeps SIGTERM to itself")
    return found


def _copied(lines: list[tuple[str, str]]) -> list[str]:
    words = [[word for word in shlex.split(rest) if not word.startswith("--")] for name, rest in lines if name == "COPY"]
    return [source for each in words for source in each[:-1]]


def ignore_patterns(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def ignored() -> list[str]:
    return ignore_patterns((ROOT / ".dockerignore").read_text())


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_the_image_has_no_fault_a_program_can_see(dockerfile: str, ignored: list[str]) -> None:
    assert faults(dockerfile, ignored, ROOT) == []


def test_every_room_is_in_the_image_and_no_secret_or_store_is(ignored: list[str]) -> None:
    rooms = [name for room in ROOMS for name in (room, f"{room}.py")]

    assert [name for name in (*rooms, "requirements.lock") if any(fnmatch(name, pattern) for pattern in ignored)] == []
    assert {".git", ".env*", "var", ".venv"} <= set(ignored)


def test_the_health_check_is_a_program_that_runs(dockerfile: str) -> None:
    command = dict(instructions(dockerfile))["HEALTHCHECK"].partition("CMD ")[2]
    program, flag, text = json.loads(command)

    compile(text, "healthcheck", "exec")
    assert (program, flag) == ("python", "-c")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("USER 10001:10001", "USER root"), "it runs as root"),
        (("USER 10001:10001\n", ""), "it runs as root"),
        (("--require-hashes ", ""), "trusts what it installs"),
        (("COPY . /app", "ADD https://a.example/app.tar /app"), "ADD is no instruction to use"),
        (("COPY . /app", "COPY absent /app"), "COPY absent does not exist"),
        (("COPY requirements.lock", "COPY requirements-dev.lock"), "requirements-dev.lock is ignored"),
        (("/healthz", "/"), "nothing asks /healthz"),
        (('CMD ["python", "-m", "cli", "serve"]', "CMD python -m cli serve"), "shell"),
        ((":3.13-slim-bookworm", ""), "floats"),
        (("USER 10001", "USR 10001"), "USR is no instruction to use"),
    ],
)
def test_a_planted_fault_is_found(dockerfile: str, ignored: list[str], change: tuple[str, str], fault: str) -> None:
    assert change[0] in dockerfile
    found = faults(dockerfile.replace(*change), ignored, ROOT)

    assert [each for each in found if fault in each] != []
