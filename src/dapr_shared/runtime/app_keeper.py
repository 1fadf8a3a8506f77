"""The process that starts the apps of a run, ends them, and outlives the instance by just as long as that takes.

Beside both roads: `python -m dapr_shared.runtime.app_keeper`, started by `runtime/app_processes.py`. It is a process of
its own so that no app is left behind when the instance is killed: the end of the instance closes the control socket, and
then the keeper ends every app. It imports the standard library alone, because what it forks should be small.

Each message on the control socket is a line of JSON. To the keeper: first the plan, then `start`, `say`, `stop`, `kill`.
From it: `started`, `failed`, `ended`, `console gone`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dapr_shared.runtime.app_output import prefix
from dapr_shared.runtime.app_relay import Relay, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

GRACE = 5.0
"""Seconds that apps have to end when the instance is gone and can give no other number."""
_LAST_OUTPUT = 2.0
"""Seconds for the last lines to be written."""
_LOOK = 0.02
"""Seconds between two looks at whether groups have ended, while they are being ended."""
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class _App:
    """One app of the plan."""

    number: int
    name: str
    command: list[str]
    folder: str
    env: dict[str, str] = field(repr=False)
    source: Source
    pipe: int
    """Writing end of its output."""
    process: subprocess.Popen[bytes] | None = None
    code: int | None = None
    """How it has ended; of a signal its negative number."""
    gone: bool = False
    """Whether nothing of its process group is left."""


class Keeper:
    """Keeps the apps."""

    def __init__(self, control: socket.socket, plan: dict[str, Any], rest: bytes) -> None:
        self._control = control
        self._unread = rest
        self._instance_gone = False
        self._stopping = False
        self._deadline = 0.0
        """When what still runs is killed; counts while stopping."""
        coloured = bool(plan["coloured"])
        self._relay = Relay(sys.stdout.fileno(), coloured=coloured, on_console_gone=lambda: self._tell("console gone"))
        self._apps = [self._app(number, given, coloured=coloured) for number, given in enumerate(plan["apps"])]
        self._relay.start([Source(plan["log"], b""), *(app.source for app in self._apps)])
        self._die_with_us = _die_with_parent()
        self._wake, wakes = socket.socketpair()
        wakes.setblocking(False)  # noqa: FBT003 - positional only
        self._wake.setblocking(False)  # noqa: FBT003 - positional only
        signal.set_wakeup_fd(wakes.detach(), warn_on_full_buffer=False)
        # Functions, not SIG_IGN: that would be handed down to the apps.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, _nothing)
        signal.signal(signal.SIGTERM, lambda _number, _frame: self._stop(GRACE))

    def run(self) -> None:
        """Do what the instance says until it and all apps are gone."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            self._take(b"")
            while not (self._instance_gone and all(app.process is None or app.gone for app in self._apps)):
                for key, _ in selector.select(_LOOK if self._stopping else None):
                    if key.fileobj is self._wake:
                        with contextlib.suppress(BlockingIOError):
                            self._wake.recv(4096)
                    elif not self._listen():
                        selector.unregister(self._control)
                        self._instance_gone = True
                        self._stop(GRACE)
                self._look()
        self._relay.finish(_LAST_OUTPUT)

    # Messages --------------------------------------------------------------------------------------------------------
    def _listen(self) -> bool:
        try:
            data = self._control.recv(65536)
        except OSError:
            return False
        if not data:
            return False
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._do(json.loads(line))

    def _do(self, message: dict[str, Any]) -> None:
        match message["do"]:
            case "start":
                for app in self._apps:
                    self._start(app)
            case "say":
                self._relay.say(message["text"])
            case "stop":
                self._stop(message["grace"])
            case "kill":
                self._stop(0)
                self._look()
            case _:
                pass

    def _tell(self, event: str, **fields: Any) -> None:
        with contextlib.suppress(OSError):  # the instance is gone
            self._control.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")

    # Apps ------------------------------------------------------------------------------------------------------------
    def _app(self, number: int, given: dict[str, Any], *, coloured: bool) -> _App:
        reading, writing = os.pipe()
        name = given["name"]
        source = Source(
            reading,
            prefix(name, number, coloured=coloured),
            to_console=given["console"],
            file=self._open(given["file"]),
        )
        return _App(number, name, given["command"], given["folder"], given["env"], source, writing)

    def _open(self, path: str) -> FileIO | None:
        if not path:
            return None
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            # Of its user alone: what a program prints may be anything.
            return open(path, "ab", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))
        except OSError as error:
            self._relay.say(f"{path} cannot be written: {error.strerror}")
            return None

    def _start(self, app: _App) -> None:
        if not app.command or self._stopping:
            return
        try:
            app.process = subprocess.Popen(  # noqa: S603 - the user's own command
                app.command,
                cwd=app.folder,
                env=app.env,
                stdin=subprocess.DEVNULL,
                stdout=app.pipe,
                stderr=app.pipe,
                process_group=0,
                preexec_fn=self._die_with_us,  # noqa: PLW1509 - the other thread here holds no lock that a child needs
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            problem = _why_not(app, error)
            self._relay.say(f"app {app.name} cannot start: {problem}")
            self._tell("failed", app=app.number, problem=problem)
        else:
            self._tell("started", app=app.number, pid=app.process.pid)
        finally:
            os.close(app.pipe)

    def _look(self) -> None:
        """See which apps have ended. One that has is not waited for yet: so its number, the group's, is not reused."""
        for app in self._apps:
            if app.process is not None and app.code is None:
                self._see_end(app, app.process)
        if self._stopping:
            self._end_groups()

    def _see_end(self, app: _App, process: subprocess.Popen[bytes]) -> None:
        if hasattr(os, "waitid"):
            found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return
            app.code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        else:
            app.code = process.poll()
            if app.code is None:
                return
        self._relay.say(f"app {app.name} {_ending(app.code, stopping=self._stopping)}", after=app.source)
        self._tell("ended", app=app.number, code=app.code, stopping=self._stopping)

    def _stop(self, grace: float) -> None:
        """Ask every group to end, and kill what has not after the grace (seconds)."""
        first = not self._stopping
        self._stopping = True
        deadline = time.monotonic() + grace
        self._deadline = deadline if first else min(self._deadline, deadline)
        if first:
            for app in self._apps:
                _signal_group(app, signal.SIGTERM)

    def _end_groups(self) -> None:
        late = time.monotonic() >= self._deadline
        for app in self._apps:
            if app.process is None or app.gone:
                continue
            if late:
                if app.code is None:
                    self._relay.say(f"app {app.name} has not stopped in time: it is killed", after=app.source)
                    self._tell("killed", app=app.number)
                _signal_group(app, signal.SIGKILL)
                app.process.wait()
                if app.code is None:
                    app.code = app.process.returncode
                    self._tell("ended", app=app.number, code=app.code, stopping=True)
                app.gone = True
            elif app.code is not None:
                app.process.wait()
                app.gone = not _signal_group(app, 0)
            if app.gone:
                self._tell("gone", app=app.number)


def _signal_group(app: _App, number: int) -> bool:
    """Send a signal to the app's process group; whether there is anybody in it."""
    if app.process is None or app.gone:
        return False
    try:
        os.killpg(app.process.pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody in it has changed the user: not ours to end
        return False
    return True


def _why_not(app: _App, error: Exception) -> str:
    command = app.command[0]
    if isinstance(error, FileNotFoundError) and error.filename == app.folder:
        return f"its directory {app.folder} does not exist"
    if isinstance(error, FileNotFoundError):
        if "/" in command and Path(app.folder, command).exists():
            return f"{command} names in its first line an interpreter that is not there"
        where = f"in {app.folder}" if "/" in command else "in the directories of PATH"
        return f"the command {command} is not found {where}"
    if isinstance(error, PermissionError):
        return f"{command} is no program that may be executed (chmod +x?)"
    if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        return f"{command} is no program, and no script that begins with #!"
    return f"{command}: {error.strerror if isinstance(error, OSError) else error}"


def _ending(code: int, *, stopping: bool) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"has stopped ({name})" if stopping else f"was ended by {name}"
    return f"has stopped (exit code {code})" if stopping else f"has ended with exit code {code}"


def _nothing(_number: int, _frame: object) -> None:
    """A signal that only wakes the loop."""


def _die_with_parent() -> Callable[[], None] | None:
    """What an app does before it becomes its command, on Linux: ask to be killed if the keeper is."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def main() -> None:
    """Read the plan from the control socket, whose number is the only argument, and keep the apps."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    received = b""
    while b"\n" not in received:
        data = control.recv(65536)
        if not data:
            return
        received += data
    line, _, rest = received.partition(b"\n")
    plan = json.loads(line)
    os.set_inheritable(plan["log"], False)  # noqa: FBT003 - positional only
    Keeper(control, plan, rest).run()


if __name__ == "__main__":
    main()
