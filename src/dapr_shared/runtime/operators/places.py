"""Where instances of this user run: one small file for each operators' socket that is open.

Assembly, beside both roads. The command line reads it to find an instance that was started with a `--data-dir` of its
own, and to say which there are when there are several. Whether an instance is there is told by its socket alone: a file
that a killed process left behind leads to no answer, and is removed by the next look.
"""

from __future__ import annotations

import contextlib
import socket
from hashlib import sha256
from pathlib import Path

import msgspec

from dapr_shared.runtime.embedded import SOCKET_NAME, state_directory

MOST_PLACES = 100
"""Files that are looked at."""
_PATIENCE = 1.0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One data directory whose operators' socket was opened."""

    data_dir: str


def note(data_dir: Path) -> Path | None:
    """Note that an instance opened the socket of this directory; the file, or `None` where it cannot be kept."""
    place = str(data_dir.absolute())
    file = _folder() / f"{sha256(place.encode()).hexdigest()[:16]}.json"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(Place(data_dir=place)))
    except OSError:  # a convenience: with --data-dir the instance is found all the same
        return None
    return file


def forget(file: Path | None) -> None:
    """The instance closes its socket."""
    if file is not None:
        with contextlib.suppress(OSError):
            file.unlink()


def running() -> list[Path]:
    """The data directories whose socket takes connections now, the default one first."""
    default = state_directory("").absolute()
    found = [default] if answers(default / SOCKET_NAME) else []
    try:
        files = sorted(_folder().glob("*.json"))[:MOST_PLACES]
    except OSError:
        return found
    for file in files:
        try:
            place = Path(msgspec.json.decode(file.read_bytes(), type=Place).data_dir)
        except (OSError, msgspec.MsgspecError):
            continue
        if place in found:
            continue
        if answers(place / SOCKET_NAME):
            found.append(place)
        else:
            forget(file)
    return found


def answers(path: Path) -> bool:
    """Whether somebody takes connections at a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _folder() -> Path:
    return state_directory("") / "instances"
