"""Make .venv and keep it as the requirement files say.

    python scripts/environment.py run      what the product needs (requirements/run.txt)
    python scripts/environment.py dev      that, and what its tests and linters need (requirements/dev.txt)
    python scripts/environment.py --check run
                                           exit 0 if there is nothing to do, 1 if there is; prints nothing

Standard library only: it runs before anything is installed. Every package is pinned and checked by its hash, then the
project itself is installed as a link to this checkout. What is installed is remembered by a fingerprint in .venv, so
that a second run needs no network. The exit code is 0 or 1; a .venv that could not be finished is taken away.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
SETS = ("run", "dev")
OLDEST = (3, 11)


class SetupError(Exception):
    """The environment cannot be made; the message says why and what to do."""


def main(words: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Bring the environment up to date; the exit code."""
    parser = argparse.ArgumentParser(description="Make .venv and keep it as the requirement files say.")
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--check", action="store_true", help="only say by the exit code whether there is work to do")
    parser.add_argument(
        "--chosen", action="store_true", help="the user chose this Python: .venv must be of its version"
    )
    arguments = parser.parse_args(words)
    environment = Environment(root)
    if arguments.check:
        return 0 if environment.is_current(arguments.set) else 1
    try:
        environment.bring_up_to_date(arguments.set, chosen=arguments.chosen)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    return 0


class Environment:
    """The virtual environment of a checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"

    def is_current(self, name: str) -> bool:
        """Whether what the set asks for is installed. `dev` contains `run`, with the same versions."""
        return self.python.exists() and any(
            self._stamp(installed).is_file()
            and self._stamp(installed).read_text(encoding="ascii") == self.fingerprint(installed)
            for installed in SETS[SETS.index(name) :]
        )

    def fingerprint(self, name: str) -> str:
        """What an installation depends on: the pinned packages, the project's metadata, the place of the checkout."""
        digest = hashlib.sha256(str(self.root).encode())
        for file in (f"requirements/{name}.txt", "pyproject.toml"):
            digest.update(hashlib.sha256((self.root / file).read_bytes()).digest())
        return digest.hexdigest()

    def bring_up_to_date(self, name: str, *, chosen: bool) -> None:
        """Make the environment where there is none that works, and install. Raises `SetupError`."""
        usable = self._works() and not (chosen and self._version() != sys.version_info[:2])
        if usable and self.is_current(name):
            return
        if not usable:
            self._make()
        try:
            self._install(name)
        except BaseException:
            if not usable:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _works(self) -> bool:
        """False also for one whose Python was removed or replaced by a system upgrade."""
        if not self.python.exists():
            return False
        done = subprocess.run([self.python, "-m", "pip", "--version"], capture_output=True, check=False)
        return done.returncode == 0

    def _version(self) -> tuple[int, ...]:
        code = "import sys; print(*sys.version_info[:2])"
        done = subprocess.run([self.python, "-c", code], capture_output=True, check=True, text=True)
        return tuple(int(part) for part in done.stdout.split())

    def _make(self) -> None:
        problem = what_is_missing()
        if problem:
            raise SetupError(problem)
        print(f"Making .venv with Python {sys.version.split()[0]} ({sys.executable})", flush=True)
        try:
            self._run([sys.executable, "-m", "venv", "--clear", str(self.folder)], "making .venv failed")
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _install(self, name: str) -> None:
        requirements = self.root / "requirements" / f"{name}.txt"
        count = sum(1 for line in requirements.read_text(encoding="utf-8").splitlines() if line and line[0].isalnum())
        print(f"Installing {count} pinned packages of requirements/{name}.txt (first time: about a minute)", flush=True)
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        self._run(
            [*pip, "--require-hashes", "--requirement", str(requirements)],
            "installing the packages failed; the first time this needs a network and a package index",
        )
        self._run(
            [*pip, "--no-deps", "--no-build-isolation", "--editable", str(self.root)],
            "installing the project into .venv failed",
        )
        self._stamp(name).write_text(self.fingerprint(name), encoding="ascii")

    def _run(self, command: list[str], failure: str) -> None:
        """Run with the tool's own output shown; its failure is a sentence of ours below it."""
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "PYTHONPATH")}
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise SetupError(f"{failure} (exit code {done.returncode})")

    def _stamp(self, name: str) -> Path:
        return self.folder / f"installed-{name}"


def what_is_missing() -> str | None:
    """What keeps this Python from making an environment, and how to get it."""
    major, minor = sys.version_info[:2]
    if (major, minor) < OLDEST:
        return f"Python {major}.{minor} is too old: 3.11 or newer is needed"
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    start = (
        f"{sys.executable} (Python {major}.{minor}) comes without {' and '.join(missing)}, which making .venv needs."
    )
    if Path("/etc/debian_version").exists():
        return f"{start}\nInstall it: apt install python{major}.{minor}-venv"
    return (
        f"{start}\nInstall your distribution's package for it, or name another Python: make run PYTHON=/path/to/python3"
    )


if __name__ == "__main__":
    sys.exit(main())
