"""The `flotilla` command: serve, demo, migrate, recount, billing adopt, device, simulate, sign, print-schema."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from blobs import BlobsUnreachable
from firmware_formats import signing
from firmware_formats.platforms import Platform
from models.database import DatabaseUnreachable
from models.migrating import MigrationFailed
from models.migrating import migrate as run_migrations
from models.one_process import DataFolderTaken
from public_keys import public_half
from settings import Settings, SettingsRefused, from_environment
from simulator import commands as simulator
from simulator import demo as company

P = ParamSpec("P")
R = TypeVar("R")

OPERATOR_ERRORS = (SettingsRefused, DataFolderTaken, DatabaseUnreachable, MigrationFailed, BlobsUnreachable, signing.NoKey, OSError)


@click.group(help="Flotilla: a device-fleet server with one GraphQL schema.")
def main() -> None:
    """The group of all commands."""


def _told(command: Callable[P, R]) -> Callable[P, R]:
    """What an operator can put right is one sentence and exit code 2, never a trace."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except OPERATOR_ERRORS as problem:
            click.echo(f"flotilla: {problem}", err=True)
            sys.exit(2)

    return run


@main.command()
@_told
def serve() -> None:
    """Migrate the database, open the doors, and serve until SIGTERM."""
    import app  # the whole server: not needed by the smaller commands

    app.serve(_settings())


@main.command()
@_told
def migrate() -> None:
    """Bring the database to this version's tables."""
    done = asyncio.run(run_migrations(_settings()))
    click.echo("\n".join(f"migrated: {name}" for name in done) or "Nothing to migrate.")


@main.command()
@click.option("--devices", default=25, show_default=True, help="How many simulated devices.")
@_told
def demo(devices: int) -> None:
    """Serve with an organization, a product, firmware and a simulated fleet, and print the log-in."""
    settings = _settings()
    server = subprocess.Popen([sys.executable, "-m", "cli", "serve"])
    try:
        asyncio.run(_demo(settings, devices, server))
    finally:
        server.terminate()
        server.wait()


async def _demo(settings: Settings, devices: int, server: "subprocess.Popen[bytes]") -> None:
    story = asyncio.create_task(company.run(settings.public_url, settings.data_dir / "demo.json", devices, click.echo))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, story.cancel)
    while not story.done() and server.poll() is None:
        await asyncio.wait([story], timeout=0.5)
    story.cancel()
    with suppress(asyncio.CancelledError):
        await story


@main.group()
def billing() -> None:
    """What an operator does about billing."""


@billing.command()
@_told
def adopt() -> None:
    """Give every organization founded with BILLING=off a customer and its trial. Stop a SQLite server first."""
    import app

    slugs = app.adopt_exempt(_settings())
    click.echo("\n".join(f"adopted: {slug}" for slug in slugs) or "Every organization has its billing already.")


@main.command()
@click.option("--repair", is_flag=True, help="Make the kept numbers the counted ones.")
@_told
def recount(repair: bool) -> None:
    """Compare the kept counts of devices with a recount; exit 1 if they differ. Stop a SQLite server first."""
    import app

    kinds, groups = app.recount(_settings(), repair=repair)
    for each in kinds:
        kind = f"product row {each.product_id}, {each.state}, firmware {each.firmware_version}"
        click.echo(f"{kind}: kept {each.kept[0]} ({each.kept[1]} online), counted {each.counted[0]} ({each.counted[1]} online)")
    for group in groups:
        click.echo(f"product row {group.product_id}, group {group.path}: kept {group.kept}, counted {group.counted}")
    found = bool(kinds or groups)
    click.echo(("Mended." if repair else "Run it again with --repair.") if found else "Every count is right.")
    sys.exit(1 if found and not repair else 0)


@main.command("print-schema")
def print_schema() -> None:
    """Print the GraphQL schema as SDL."""
    from schema.build import build_schema

    click.echo(build_schema().as_str())


@main.command()
@click.argument("binary", type=click.Path(path_type=Path), required=False)
@click.option("--key", type=click.Path(path_type=Path), help="The private key: a PEM file without a passphrase, or 32 bare bytes.")
@click.option("--product", type=int, help="The product's number.")
@click.option("--version", type=int, help="The version, as it will be uploaded.")
@click.option("--platform", type=click.Choice([str(each) for each in Platform]), help="The product's platform.")
@click.option("--new-key", type=click.Path(path_type=Path), help="Make a key in this file instead, and print its public half.")
@_told
def sign(
    binary: Path | None, key: Path | None, product: int | None, version: int | None, platform: str | None, new_key: Path | None
) -> None:
    """Sign firmware on this machine, and print what to send as `signature`. Nothing is sent anywhere.

    With --key alone: print the key's public half, for addSigningKey.
    """
    if new_key is not None:
        click.echo(_make_key(new_key))
    elif key is None:
        raise click.UsageError("Give --key FILE, or make one with --new-key FILE.")
    elif binary is None:
        click.echo(public_half(signing.read_private_key(key.read_bytes())))
    elif product is None or version is None or platform is None:
        raise click.UsageError("Give --product, --version and --platform: they are signed with the file.")
    else:
        about = signing.statement(binary.read_bytes(), product_id=product, version=version, platform=platform)
        click.echo(signing.sign(signing.read_private_key(key.read_bytes()), about))


def _make_key(path: Path) -> str:
    """Its public half. The file is for its owner alone, and never one that was there before."""
    made = signing.new_key()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(signing.private_pem(made))
    return public_half(made)


main.add_command(simulator.device)
main.add_command(simulator.simulate)


def _settings() -> Settings:
    settings = from_environment()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request, with its signed URL
    return settings


if __name__ == "__main__":
    main(prog_name="flotilla")
