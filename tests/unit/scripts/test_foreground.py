"""A command as the terminal's foreground job, under make as under a shell."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.required import need, need_command

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "foreground.py"
if TYPE_CHECKING:
    from collections.abc import Generator

PATIENCE = 20.0
# Not of the `make test` that runs these tests: it would be the outer make of the one under test.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
PROGRAM = """
import signal, sys
wanted = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print("waiting", flush=True)
print("got", signal.Signals(signal.sigwait(wanted)).name, flush=True)
again = signal.sigtimedwait(wanted, 0.3)
if again:
    print("and again", flush=True)
sys.exit(7 if sys.argv[1:] == ["7"] else 0)
"""


@pytest.fixture
def makefile(tmp_path: Path) -> Path:
    """A makefile whose only target runs the program in the foreground."""
    (tmp_path / "program.py").write_text(PROGRAM)
    path = tmp_path / "Makefile"
    path.write_text(f"run:\n\t@exec {sys.executable} {SCRIPT} {sys.executable} {tmp_path / 'program.py'}\n")
    return path


def read_until(descriptor: int, text: str, seen: bytearray) -> None:
    deadline = time.monotonic() + PATIENCE
    while text.encode() not in seen:
        ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"did not print {text!r}: {bytes(seen)!r}"
        try:
            seen += os.read(descriptor, 4096)
        except OSError as error:  # the terminal is closed: the command has ended
            raise AssertionError(f"ended without {text!r}: {bytes(seen)!r}") from error


def test_ctrl_c_in_a_terminal_under_make(makefile: Path) -> None:
    """Ctrl-C reaches the command and not make, whose exit code is then the command's 0."""
    need_command("make", "make")
    try:
        main, other = pty.openpty()
    except OSError:
        need(condition=False, what="pseudo terminals (a mounted /dev/pts)")
        raise
    with os.fdopen(main, "rb+", buffering=0), os.fdopen(other, "rb+", buffering=0):
        # A session of its own whose terminal is `other`: what a terminal emulator does.
        code = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, "make", "-f", str(makefile)],
            stdin=other, stdout=other, stderr=other, env=ENVIRONMENT, start_new_session=True,
        )  # fmt: skip
        try:
            seen = bytearray()
            read_until(main, "waiting", seen)
            deadline = time.monotonic() + PATIENCE
            while os.tcgetpgrp(main) == process.pid:  # until the terminal is handed over
                assert time.monotonic() < deadline
                time.sleep(0.005)
            os.write(main, b"\x03")
            read_until(main, "got SIGINT", seen)
            assert process.wait(PATIENCE) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def started(command: list[str]) -> Generator[subprocess.Popen[str]]:
    """Run a command whose first line is the program's, and end it if the test has not."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    )
    with process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "waiting\n"
            yield process
        finally:
            if process.poll() is None:
                process.terminate()  # which is passed on to the program


def foreground(tmp_path: Path, *words: str) -> list[str]:
    (tmp_path / "program.py").write_text(PROGRAM)
    return [sys.executable, str(SCRIPT), sys.executable, str(tmp_path / "program.py"), *words]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_once(tmp_path: Path, number: signal.Signals) -> None:
    """Without a terminal a signal to the group reaches the command, once though it came twice."""
    with started(foreground(tmp_path)) as process:
        os.killpg(process.pid, number)
        os.kill(process.pid, number)
        output, _ = process.communicate(timeout=PATIENCE)
    assert output == f"got {number.name}\n"
    assert process.returncode == 0


def test_the_exit_code_is_the_commands(tmp_path: Path) -> None:
    """The command's exit code is passed through."""
    with started(foreground(tmp_path, "7")) as process:
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 7


def test_make_passes_sigterm(makefile: Path) -> None:
    """A SIGTERM to make alone ends the command cleanly."""
    need_command("make", "make")
    with started(["make", "-f", str(makefile)]) as process:
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE)
    assert output.startswith("got SIGTERM\n")


def test_without_a_command() -> None:
    """Without a command it says how it is used, exit code 2."""
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "COMMAND" in done.stderr
