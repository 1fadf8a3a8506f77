"""The search for a Python to make .venv with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "find_python.sh"


def stub(folder: Path, name: str, *, version: str, complete: bool = True) -> Path:
    """An executable that answers like a Python of this version."""
    path = folder / name
    newer = "0" if tuple(int(part) for part in version.split(".")) >= (3, 11) else "1"
    lines = [
        "#!/bin/sh",
        'case "$2" in',
        f"*sys.exit*) exit {newer};;",
        f"*ensurepip*) {'echo ' + str(path) if complete else 'exit 1'};;",
        f"*) echo {path};;",
        "esac",
    ]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)
    return path


def find(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the script with nothing on PATH but `folder`."""
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), *words], env={"PATH": str(folder)}, capture_output=True, text=True, check=False
    )


def test_the_newest_is_taken(tmp_path: Path) -> None:
    """Of several that fit the newest is printed."""
    stub(tmp_path, "python3", version="3.11")
    stub(tmp_path, "python3.12", version="3.12")
    newest = stub(tmp_path, "python3.13", version="3.13")
    assert find(tmp_path).stdout == f"{newest}\n"


def test_a_stub_that_cannot_run_is_passed_over(tmp_path: Path) -> None:
    """A name on PATH that fails when it is run counts as absent."""
    broken = tmp_path / "python3.14"
    broken.write_text("#!/bin/sh\necho not installed >&2\nexit 127\n")
    broken.chmod(0o755)
    works = stub(tmp_path, "python3.11", version="3.11")
    found = find(tmp_path)
    assert (found.stdout, found.stderr) == (f"{works}\n", "")


def test_a_complete_one_wins_over_a_newer_without_venv(tmp_path: Path) -> None:
    """A Python that can make an environment is preferred to a newer one that cannot."""
    stub(tmp_path, "python3.13", version="3.13", complete=False)
    complete = stub(tmp_path, "python3.11", version="3.11")
    assert find(tmp_path).stdout == f"{complete}\n"


def test_an_incomplete_one_is_better_than_none(tmp_path: Path) -> None:
    """Where every Python lacks venv, the newest is printed, so that the next step can say what it lacks."""
    newest = stub(tmp_path, "python3.13", version="3.13", complete=False)
    stub(tmp_path, "python3.11", version="3.11", complete=False)
    assert find(tmp_path).stdout == f"{newest}\n"


@pytest.mark.parametrize("version", ["3.10", "3.8"])
def test_too_old_is_none(tmp_path: Path, version: str) -> None:
    """A machine with an old Python alone is told what is needed, with exit code 1."""
    stub(tmp_path, "python3", version=version)
    found = find(tmp_path)
    assert (found.returncode, found.stdout) == (1, "")
    assert "No suitable Python" in found.stderr
    assert "3.11 or newer" in found.stderr


def test_the_named_one_is_the_only_candidate(tmp_path: Path) -> None:
    """A Python that was named is taken or refused; no other one replaces it."""
    stub(tmp_path, "python3", version="3.12")
    old = stub(tmp_path, "old", version="3.9")
    assert find(tmp_path, str(old)).returncode == 1
    assert f"PYTHON={old}" in find(tmp_path, str(old)).stderr
    assert find(tmp_path, "absent").returncode == 1


def test_a_real_python_is_found() -> None:
    """The Python that runs this test fits, and is printed by the path of its executable."""
    found = subprocess.run(["/bin/sh", str(SCRIPT), sys.executable], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == sys.executable
