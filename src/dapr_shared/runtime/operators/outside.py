"""What `doctor` can tell without an instance: this machine, the data directory, ports, and files that are named.

Beside both roads. Together with `inside.py`, which an instance answers, it is the whole of `dapr-shared doctor`.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dapr_shared
from dapr_shared.runtime.embedded import SOCKET_NAME
from dapr_shared.runtime.operators import file_modes
from dapr_shared.runtime.operators.answers import Finding, InstanceInfo, Status
from dapr_shared.runtime.ports import holder_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.runtime.validation.check import Report

PORTS = {3500: "--dapr-http-port", 50001: "--dapr-grpc-port", 9090: "--metrics-port"}
"""Ports of an instance that is started without flags, and the flag of each."""
LITTLE_SPACE = 1024**3
"""Bytes free below which the disk of the data directory is worth a word."""
NO_SPACE = 50 * 1024**2
"""Bytes free below which state and messages are about to fail."""
_EARLIEST = 1_750_000_000
"""A time before this version was written: a clock that shows it was never set."""
_PATIENCE = 1.0


def machine(data_dir: Path) -> list[Finding]:
    """Versions, the clock, the data directory and its disk."""
    return [_versions(), _clock(), *_directory(data_dir), *_space(data_dir)]


def _versions() -> Finding:
    about = f"dapr-shared {dapr_shared.__version__}, Python {platform.python_version()}, {platform.system()}"
    if sys.version_info < (3, 11) or sys.version_info >= (3, 15):
        return _finding(
            "versions", Status.WARNING, f"{about}: Python 3.11 to 3.14 is what it is tested with", "use one of them"
        )
    return _finding("versions", Status.OK, about)


def _clock() -> Finding:
    if time.time() < _EARLIEST:
        about = f"the clock of this machine shows {time.strftime('%Y-%m-%d', time.gmtime())}"
        return _finding(
            "clock of the machine", Status.ERROR, about, "set it, and let NTP keep it: tokens, expiry and TLS go by it"
        )
    return _finding("clock of the machine", Status.OK, f"shows {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC")


def _directory(data_dir: Path) -> list[Finding]:
    check = "data directory"
    if not _there(data_dir):
        parent = next((one for one in data_dir.absolute().parents if _there(one)), Path("/"))
        if os.access(parent, os.W_OK | os.X_OK):
            return [_finding(check, Status.OK, f"{data_dir} is made when an instance starts")]
        return [
            _finding(
                check,
                Status.ERROR,
                f"{data_dir} cannot be made: {parent} is closed to you",
                "choose another --data-dir",
            )
        ]
    if not data_dir.is_dir():
        return [_finding(check, Status.ERROR, f"{data_dir} is not a directory", "choose another --data-dir")]
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        return [
            _finding(
                check,
                Status.ERROR,
                f"{data_dir} is closed to you",
                "run this as the instance's user, or choose another --data-dir",
            )
        ]
    found = file_modes.private([data_dir], "the data directory")
    found += file_modes.private([data_dir / SOCKET_NAME], "the operators' socket")
    found += file_modes.private(sorted(data_dir.glob("*.db")), "the database")[:5] if found else []
    return found or [_finding(check, Status.OK, f"{data_dir} is yours alone")]


def _space(data_dir: Path) -> list[Finding]:
    place = next((one for one in (data_dir.absolute(), *data_dir.absolute().parents) if _there(one)), Path("/"))
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return []
    about = f"{free / 1024**3:.1f} GiB free where {data_dir} is"
    if free < NO_SPACE:
        return [_finding("disk", Status.ERROR, about, "make room: state and messages can no longer be written")]
    if free < LITTLE_SPACE:
        return [_finding("disk", Status.WARNING, about, "make room before state and messages can no longer be written")]
    return [_finding("disk", Status.OK, about)]


def without_instance(data_dir: Path) -> list[Finding]:
    """No instance answers: the ports that one would take, and what cannot be looked at."""
    found = [
        _finding(
            "instance",
            Status.SKIPPED,
            f"none runs with {data_dir}",
            "start one to have its apps and backends checked: dapr-shared run",
        )
        if not _there(data_dir) or os.access(data_dir, os.X_OK)
        else _finding(
            "instance",
            Status.SKIPPED,
            f"whether one runs with {data_dir} cannot be seen: the directory is another user's",
            "run this as the instance's user",
        ),
    ]
    for port, flag in PORTS.items():
        if not _taken(port):
            continue
        holder = holder_of(port) or "another program"
        about = f"port {port} is taken by {holder}"
        found.append(
            _finding("ports", Status.WARNING, about, f"end it, or start the instance with {flag} and another port")
        )
    if len(found) == 1:
        found.append(_finding("ports", Status.OK, f"{', '.join(map(str, PORTS))} are free"))
    return found


def of_instance(info: InstanceInfo) -> list[Finding]:
    """An instance answers: its version beside this command's, and whether its ports do answer."""
    about = f"process {info.pid}, version {info.version}, {info.mode}, up for {_span(info.uptime)}"
    same = info.version == dapr_shared.__version__
    found = [
        _finding("instance", Status.OK, about) if same else
        _finding("instance", Status.WARNING, f"{about}; this command is {dapr_shared.__version__}", "restart the instance with the new version"),
    ]  # fmt: skip
    dead = [where for where in info.listeners if not _accepts(where.partition(" ")[2])]
    remedy = "see the instance's log: dapr-shared logs"
    found += [_finding("ports", Status.ERROR, f"{where} does not accept connections", remedy) for where in dead]
    if not dead:
        found.append(_finding("ports", Status.OK, f"{', '.join(info.listeners) or 'none shared'} accept connections"))
    return found


def of_files(report: Report, paths: Sequence[str]) -> list[Finding]:
    """What `validate` says of files that are named: each error, each variable that is missing, and a count."""
    found = [
        _finding(
            "files",
            Status.ERROR,
            f"{one.file}:{one.line}: {one.field}: {one.problem}",
            "correct it; the instance does not take it",
        )
        for one in report.problems
        if one.severity.value == "error"
    ]
    found += [
        _finding("files", Status.WARNING, f"{one.file}:{one.line}: {one.field}: {one.problem}", _remedy(one.problem))
        for one in report.problems
        if one.severity.value == "warning"
    ]
    found += file_modes.not_writable([Path(file) for file in report.files], "the resource file")
    return found or [_finding("files", Status.OK, f"{', '.join(paths)}: nothing is wrong")]


def _remedy(problem: str) -> str:
    return (
        "set it where the instance is started" if "environment variable" in problem else "correct it if it is not meant"
    )


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a directory on the way is closed to us
        return False


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _accepts(address: str) -> bool:
    if address.startswith("unix:"):
        family, target = socket.AF_UNIX, address.removeprefix("unix:")
    else:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # An instance that listens on every address is reached on loopback.
        target = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port))  # noqa: S104 - compared, not bound
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(target)
        except OSError:
            return False
    return True


def _span(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def _finding(check: str, status: Status, about: str, remedy: str = "") -> Finding:
    return Finding(check=check, status=status, about=about, remedy=remedy)
