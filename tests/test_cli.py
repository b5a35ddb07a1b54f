"""The maker's command: it signs what the server takes, makes keys that only their owner reads, and says in a sentence what is wrong."""

import stat
from pathlib import Path

from click.testing import CliRunner, Result

from cli import main
from firmware_formats.building import particle_binary
from firmware_formats.signing import is_signed_by, statement
from public_keys import is_public_key

ABOUT = ["--product", "1094", "--version", "7", "--platform", "PHOTON"]


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["sign", *(str(word) for word in words)])


def test_a_new_key_signs_what_its_public_half_confirms(tmp_path: Path) -> None:
    binary, key = tmp_path / "lamp.bin", tmp_path / "release.pem"
    binary.write_bytes(particle_binary(1094, 7, 6))

    public, signed = run("--new-key", key), run(binary, "--key", key, *ABOUT)

    assert (public.exit_code, signed.exit_code) == (0, 0)
    assert is_public_key(public.output.strip())
    about = statement(binary.read_bytes(), product_id=1094, version=7, platform="PHOTON")
    assert is_signed_by(public.output.strip(), signed.output.strip(), about)
    assert run("--key", key).output == public.output


def test_a_key_file_is_for_its_owner_alone_and_is_never_written_over(tmp_path: Path) -> None:
    key = tmp_path / "release.pem"
    run("--new-key", key)
    before = key.read_bytes()

    again = run("--new-key", key)

    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert again.exit_code == 2
    assert again.output.startswith("flotilla: ")
    assert key.read_bytes() == before


def test_what_is_missing_or_wrong_is_said_in_a_sentence(tmp_path: Path) -> None:
    binary, no_key = tmp_path / "lamp.bin", tmp_path / "no.pem"
    binary.write_bytes(b"1")
    no_key.write_bytes(b"no key")

    said = {
        "Give --key FILE": run(binary),
        "Give --product, --version and --platform": run(binary, "--key", no_key),
        "This is no private key": run(binary, "--key", no_key, *ABOUT),
        "No such file": run(tmp_path / "none.bin", "--key", no_key, *ABOUT),
    }

    assert [result.exit_code for result in said.values()] == [2] * 4
    assert [text for text, result in said.items() if text not in result.output] == []
