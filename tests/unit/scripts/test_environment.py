"""How .venv is made and kept."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from scripts import environment
from scripts.environment import main, what_is_missing

if TYPE_CHECKING:
    from pathlib import Path


class Tools:
    """Stands for the commands that the script runs: `venv` makes a folder, `pip` does nothing or fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[list[str]] = []
        self.fails = ""
        self.version = "{} {}".format(*sys.version_info)
        self.broken = False

    def run(self, command: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in command]
        self.commands.append(words)
        if "venv" in words:
            (self.folder / "bin").mkdir(parents=True, exist_ok=True)
            (self.folder / "bin" / "python").touch()
            self.broken = False
        failed = bool(self.fails and self.fails in words) or (self.broken and "--version" in words)
        return subprocess.CompletedProcess(words, int(failed), stdout=self.version, stderr="")

    def count(self, word: str) -> int:
        return sum(word in command for command in self.commands)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "run.txt").write_text("msgspec==0.22 \\\n    --hash=sha256:00\n")
    (tmp_path / "requirements" / "dev.txt").write_text("msgspec==0.22 \\\n    --hash=sha256:00\npytest==9\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


@pytest.fixture
def tools(root: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    made = Tools(root / ".venv")
    monkeypatch.setattr(environment.subprocess, "run", made.run)
    return made


def test_the_first_run_makes_and_installs(root: Path, tools: Tools) -> None:
    """A checkout without .venv gets one, with every package checked by its hash and the project without dependencies."""
    assert main(["run"], root) == 0
    packages, project = (command for command in tools.commands if "install" in command)
    assert "--require-hashes" in packages
    assert {"--no-deps", "--no-build-isolation"} <= set(project)
    assert main(["--check", "run"], root) == 0


def test_the_second_run_does_nothing(root: Path, tools: Tools) -> None:
    """What is installed is not installed again, so that the second run needs no network."""
    main(["run"], root)
    installed = tools.count("install")
    assert main(["run"], root) == 0
    assert tools.count("install") == installed


@pytest.mark.parametrize("file", ["requirements/run.txt", "pyproject.toml"])
def test_a_changed_file_installs_again(root: Path, tools: Tools, file: str) -> None:
    """A change of the requirements or the project's metadata is installed into the same .venv."""
    main(["run"], root)
    (root / file).write_text("changed==1\n")
    assert main(["--check", "run"], root) == 1
    assert main(["run"], root) == 0
    assert (tools.count("venv"), tools.count("--require-hashes")) == (1, 2)


def test_a_moved_checkout_installs_again(root: Path, tools: Tools) -> None:
    """The project is linked by its path, so a checkout that has moved is not current."""
    main(["run"], root)
    moved = root.parent / f"{root.name}-moved"
    root.rename(moved)
    assert main(["--check", "run"], moved) == 1


def test_dev_contains_run(root: Path, tools: Tools) -> None:
    """After the developer's packages nothing is left to do for `run`; not the other way round."""
    main(["run"], root)
    assert main(["--check", "dev"], root) == 1
    main(["dev"], root)
    (root / ".venv" / "installed-run").unlink()
    assert main(["--check", "run"], root) == 0


@pytest.mark.parametrize("failing", ["venv", "--require-hashes", "--editable"])
def test_nothing_half_made_is_left(root: Path, tools: Tools, capsys: pytest.CaptureFixture[str], failing: str) -> None:
    """A step that fails leaves no .venv behind, says which step it was, and the exit code is 1."""
    tools.fails = failing
    assert main(["run"], root) == 1
    assert not (root / ".venv").exists()
    assert "failed" in capsys.readouterr().err


def test_a_failed_update_keeps_the_environment(root: Path, tools: Tools) -> None:
    """An environment that worked before a failed installation is kept, and the next run tries again."""
    main(["run"], root)
    (root / "pyproject.toml").write_text("changed\n")
    tools.fails = "--require-hashes"
    assert main(["run"], root) == 1
    assert (root / ".venv").exists()
    assert main(["--check", "run"], root) == 1


def test_a_broken_environment_is_made_again(root: Path, tools: Tools) -> None:
    """A .venv whose Python is gone after a system upgrade is replaced."""
    main(["run"], root)
    tools.broken = True
    assert main(["run"], root) == 0
    assert tools.count("venv") == 2


def test_another_chosen_python_makes_it_again(root: Path, tools: Tools) -> None:
    """A named Python of another version replaces .venv; without a name the one that is there stays."""
    main(["run"], root)
    tools.version = "3 10"
    main(["run"], root)
    assert tools.count("venv") == 1
    main(["--chosen", "run"], root)
    assert tools.count("venv") == 2


def test_a_python_without_venv(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Debian's Python without venv: the package to install is named, and nothing is made."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        environment.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else found(name)
    )
    monkeypatch.setattr(environment.Path, "exists", lambda path: str(path) == "/etc/debian_version")
    assert main(["run"], root) == 1
    said = capsys.readouterr().err
    assert "comes without ensurepip" in said
    assert f"apt install python3.{sys.version_info[1]}-venv" in said
    assert not (root / ".venv").is_dir()


def test_this_python_is_complete() -> None:
    """The Python of the tests lacks nothing."""
    assert what_is_missing() is None
