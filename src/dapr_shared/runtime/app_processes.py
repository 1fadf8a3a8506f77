"""The apps of a run, seen from the instance: asks the keeper to start and end them, and hears what became of them.

Beside both roads; assembly of `dapr-shared run -f` and `run --app-id … -- COMMAND`. The processes themselves are the
keeper's (`runtime/app_keeper.py`). Each watches the other: the keeper ends the apps when the instance is gone, and the
instance kills them when the keeper is.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dapr_shared.observability.events import Events

_KEEPER_ENDS = 5.0
"""Seconds for the keeper to write the last lines."""
_BEYOND_GRACE = 2.0
"""Seconds after the grace until the instance no longer waits for the keeper to have killed what is left."""


@dataclass(frozen=True, slots=True)
class AppCommand:
    """One app to start."""

    name: str
    command: tuple[str, ...]
    """Empty: nothing is started."""
    folder: str
    env: Mapping[str, str] = field(repr=False)
    """Its whole environment."""
    console: bool = True
    """Whether what it prints is shown."""
    file: str = ""
    """Where what it prints is kept; empty: nowhere."""


class AppProcesses:
    """The apps of one run. All methods but `open` and `close` belong to the event loop."""

    def __init__(self, apps: Sequence[AppCommand], *, grace: float, greeting: Sequence[str] = ()) -> None:
        """`grace`: seconds that apps have to end. `greeting`: lines that are shown when the apps are started."""
        self._apps: list[AppCommand] = list(apps)
        self._grace = grace
        self._greeting = list(greeting)
        self._running: dict[int, int] = {}
        """The process group of each app that is not gone."""
        self._ended: set[int] = set()
        self._expected = {number for number, app in enumerate(self._apps) if app.command}
        self._events: Events | None = None
        self._unread = b""
        self._changed = asyncio.Event()
        self.over = asyncio.Event()
        """Set when the run has nothing left to do: every app has ended, the console is gone, or the keeper is."""
        self.failed = False
        """Whether an app could not start, ended by itself with another code than 0, or had to be killed."""

    # The keeper ------------------------------------------------------------------------------------------------------
    def open(self) -> io.FileIO:
        """Start the keeper; the stream for the instance's own lines, so that no two processes write to one console.

        Raises `OSError` where no process can be started.
        """
        self._on_terminal = os.isatty(sys.stdout.fileno())
        ours, theirs = socket.socketpair()
        log_read, log_write = os.pipe()
        with theirs:
            self._keeper = subprocess.Popen(  # noqa: S603 - ourselves
                # -P: a folder in which a user has a file json.py must not change what is imported.
                [sys.executable, "-P", "-m", "dapr_shared.runtime.app_keeper", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), log_read),
            )
        os.close(log_read)
        self._control = ours
        apps = [
            {
                "name": app.name,
                "command": app.command,
                "folder": app.folder,
                "env": dict(app.env),
                "console": app.console,
                "file": app.file,
            }
            for app in self._apps
        ]
        self._log = ConsoleStream(log_write)
        self._order(log=log_read, coloured=self._log.isatty(), apps=apps)
        return self._log

    def terminal_gone(self) -> bool:
        """Whether the run was begun on a terminal that is closed by now."""
        return self._on_terminal and not os.isatty(sys.stdout.fileno())

    def close(self) -> None:
        """Let the keeper end: it writes what is left first."""
        self._control.close()
        if not self._log.closed:
            self._log.close()
        try:
            self._keeper.wait(self._grace + _KEEPER_ENDS)
        except subprocess.TimeoutExpired:
            self._kill_groups()
            self._keeper.kill()
            self._keeper.wait()

    # The apps --------------------------------------------------------------------------------------------------------
    def start(self, events: Events) -> None:
        """Start the apps; what cannot start is told, and the others go on."""
        self._events = events
        self._control.setblocking(False)  # noqa: FBT003 - positional only
        asyncio.get_running_loop().add_reader(self._control, self._listen)
        for line in self._greeting:
            self._order(do="say", text=line)
        self._order(do="start")

    async def stop(self) -> None:
        """Ask all apps to end, and return when they have, or have been killed after the grace."""
        if self._events is None:
            return
        self._order(do="stop", grace=self._grace)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace + _BEYOND_GRACE):
                while self._running:
                    self._changed.clear()
                    await self._changed.wait()
        self._kill_groups()
        asyncio.get_running_loop().remove_reader(self._control)

    def kill(self) -> None:
        """Kill all apps now."""
        self._order(do="kill")
        self._kill_groups()

    def _kill_groups(self) -> None:
        for group in self._running.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    # Messages --------------------------------------------------------------------------------------------------------
    def _order(self, **message: Any) -> None:
        self._control.setblocking(True)  # noqa: FBT003 - positional only
        with contextlib.suppress(OSError):  # the keeper is gone; `_listen` sees that
            self._control.sendall(json.dumps(message).encode("utf-8", "surrogateescape") + b"\n")
        self._control.setblocking(False)  # noqa: FBT003 - positional only

    def _listen(self) -> None:
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._control)
            self._keeper_gone()
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))
        self._changed.set()

    def _hear(self, message: dict[str, Any]) -> None:
        assert self._events is not None  # noqa: S101 - set where listening begins
        number: int = message.get("app", -1)
        name = self._apps[number].name if number >= 0 else ""
        match message["event"]:
            case "started":
                self._running[number] = message["pid"]
                self._events.app_process_started(name, message["pid"])
            case "failed":
                self._events.app_process_failed(name, message["problem"])
                self._ends(number, failed=True)
            case "ended":
                self._events.app_process_ended(name, message["code"])
                self._ends(number, failed=message["code"] != 0 and not message["stopping"])
            case "killed":
                self.failed = True
            case "gone":
                self._running.pop(number, None)
            case _:
                self.over.set()  # the console is gone: nobody can read on

    def _ends(self, number: int, *, failed: bool) -> None:
        self.failed |= failed
        self._ended.add(number)
        if self._ended >= self._expected and len(self._expected) == len(self._apps):
            self.over.set()  # an app without a command may still use its endpoints

    def _keeper_gone(self) -> None:
        """Somebody has killed it: nobody would relay what apps print, nor see how they end."""
        self.failed = True
        self._kill_groups()
        self._running.clear()
        self._changed.set()
        self.over.set()


class ConsoleStream(io.FileIO):
    """A pipe to the keeper that says of itself what the console is, so that the log is coloured where that has colours."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb")

    def isatty(self) -> bool:
        """Whether the lines end up on a terminal that has colours."""
        return os.isatty(sys.stdout.fileno()) and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
