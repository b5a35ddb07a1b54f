"""What the device benchmarks share: a furnished PostgreSQL, a real server process, and the compiled fleet that connects to it."""

import asyncio
import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.migrating import migrate
from models.organization import Organization
from models.product import Product
from models.sql import copy_in
from public_keys import public_half
from settings import Settings
from tests import servers
from tests.house import open_house
from tests.processes import ServerProcess, environment_of

PRODUCT = 1094
SEED = bytes(range(32))  # of the one key that all devices here have
FIRST = 0xFACE << 32  # the id of the first device, as a number
SOURCE = Path(__file__).parent / "devices.c"
REST_S = 1.0  # over which a process is watched for having come to rest


@dataclasses.dataclass(frozen=True)
class Used:
    """What a process has used: CPU seconds since its start, resident MiB now."""

    cpu_s: float
    rss_mib: float

    @classmethod
    def of(cls, pid: int) -> "Used":
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
        rss = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]  # Linux always says it
        return cls((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), rss)

    def cpu_since(self, before: "Used") -> float:
        """Seconds; at least the one tick that the kernel counts in."""
        return max(self.cpu_s - before.cpu_s, 1 / os.sysconf("SC_CLK_TCK"))


class Devices:
    """The compiled fleet: `count` devices that all have the key of SEED."""

    def __init__(self, program: Path, port: int, count: int, *, first: int = FIRST) -> None:
        command = [str(program), str(port), str(first), str(count), str(PRODUCT), SEED.hex()]
        self.count = count
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, command: str) -> None:
        """Give it something to do; `end` reads how it went."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the devices ended with {self._process.wait(5)}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def do(self, command: str) -> dict[str, Any]:
        self.begin(command)
        return self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


def compiled(folder: Path) -> Path:
    """The load client, built from source. Raises FileNotFoundError where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("The device benchmarks build their load client: install a C compiler and libssl-dev.")
    program = folder / "devices"
    subprocess.run([compiler, "-O2", "-o", program, SOURCE, "-lcrypto"], check=True)
    return program


def device_ids(count: int) -> list[str]:
    return [f"{FIRST + number:024x}" for number in range(count)]


@contextmanager
def furnished(folder: Path, devices: int) -> Iterator[Settings]:
    """A migrated PostgreSQL, fsync on, with one product and `devices` devices that have the key of SEED."""
    with servers.postgres(fsync=True) as admin:
        settings = dataclasses.replace(
            Settings(), data_dir=folder, database_url=servers.new_database(admin.url), secret_key="k" * 32, billing="off",
            rate_limits=False, event_rate_per_s=1e6, event_burst=1_000_000,
        )  # fmt: skip
        asyncio.run(_furnish(settings, devices))
        yield settings


async def _furnish(settings: Settings, devices: int) -> None:
    await migrate(settings)
    now = datetime.now(UTC)
    async with open_house(settings):
        team = await Organization.create(slug="bench", name="Bench", created_at=now)
        product = await Product.create(number=PRODUCT, organization=team, slug="p", name="P", platform="PHOTON", created_at=now)
        key = public_half(Ed25519PrivateKey.from_private_bytes(SEED))
        columns = ("device_id", "product_id", "created_at", "public_key")
        await copy_in("device", columns, [(device_id, product.id, now, key) for device_id in device_ids(devices)])


def server(settings: Settings, folder: Path, name: str = "server", **variables: str) -> ServerProcess:
    """A server process on these settings; a context manager. `variables` go into its environment."""
    return ServerProcess(environment_of(settings) | variables, log_path=folder / f"{name}.log")


def settled(pid: int, *, within_s: float = 30.0) -> Used:
    """What the process has used once it has come to rest, with less than a tenth of a core."""
    deadline, before = time.monotonic() + within_s, Used.of(pid)
    while True:
        time.sleep(REST_S)
        after = Used.of(pid)
        if after.cpu_s - before.cpu_s < 0.1 * REST_S or time.monotonic() > deadline:
            return after
        before = after


def versions() -> str:
    packages = ("uvicorn", "websockets", "asyncpg", "pynacl", "tortoise-orm")
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])
