"""Where a database is: the connection string read as daprd reads it, the file prepared, the exclusive lock.

Beside both roads: used once, when a database is opened.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.settings import SettingError

if TYPE_CHECKING:
    from collections.abc import Generator

_REFUSED_PRAGMAS = {
    "busy_timeout": "use the setting busyTimeout",
    "journal_mode": "use the setting disableWAL",
    "foreign_keys": "it cannot be changed",
    "synchronous": "use the setting synchronous",
}
_MEMORY = (":memory:", "file::memory:")


@dataclass(frozen=True, slots=True)
class Location:
    """A connection string, understood."""

    path: Path | None
    """The file; `None`: the database is in memory and belongs to one component alone."""
    uri: str
    """What SQLite opens."""
    read_only: bool
    """`mode=ro` or `immutable=1`."""
    pragmas: tuple[str, ...]
    """The statements of `_pragma=…`, run on every connection."""

    def __str__(self) -> str:
        return ":memory:" if self.path is None else str(self.path)


def parse_location(connection_string: str) -> Location:
    """Read a path, a `file:` URI or `:memory:`, each with URI parameters after `?`.

    As in daprd a path is read as a URI too (percent escapes hold), `_txlock` and `cache` have no effect (transactions
    are always immediate, nothing is shared), and pragmas with a setting of their own are refused. Other names that
    start with `_` belong to daprd's driver and are ignored. Raises `SettingError`.
    """
    field = "connectionString"
    text = connection_string.strip()
    if not text:
        raise SettingError(field, "is required: the path of the database file")
    before, _, query = text.partition("?")
    parameters = parse_qsl(query, keep_blank_values=True)
    pragmas = tuple(_pragma(value) for name, value in parameters if name == "_pragma")
    passed = [(name, value) for name, value in parameters if not name.startswith("_") and name != "cache"]
    options = dict(reversed(passed))
    if text.lower().startswith(_MEMORY) or options.get("mode") == "memory":
        return Location(None, ":memory:", read_only=False, pragmas=pragmas)
    is_uri = before[:5].lower() == "file:"
    path_text = unquote(_without_authority(before[5:]) if is_uri else before).partition("\0")[0]
    if not path_text:
        raise SettingError(field, f"names no file: {text!r}")
    read_only = options.get("mode") == "ro" or options.get("immutable") == "1"
    uri = f"file:{quote(path_text)}" + (f"?{urlencode(options)}" if options else "")
    return Location(Path(path_text), uri, read_only, pragmas)


def _without_authority(rest: str) -> str:
    rest = rest.partition("#")[0]
    if not rest.startswith("//"):
        return rest
    authority, slash, path = rest[2:].partition("/")
    if authority not in {"", "localhost"}:
        raise SettingError("connectionString", f"names another machine, {authority!r}: use file:/path or file:///path")
    return slash + path


def _pragma(value: str) -> str:
    name, separator, rest = value.partition("(")
    argument = rest.removesuffix(")")
    if not separator:
        name, separator, argument = value.partition("=")
    name = name.strip().lower()
    if name in _REFUSED_PRAGMAS:
        raise SettingError("connectionString", f"_pragma={name} is refused: {_REFUSED_PRAGMAS[name]}")
    if not name.isidentifier() or ";" in argument:
        raise SettingError("connectionString", f"_pragma={value!r} is not of the form name(value)")
    return f"PRAGMA {name} = {argument.strip()}" if separator else f"PRAGMA {name}"


def prepare_file(path: Path) -> None:
    """Make a missing database file (mode 0600) and its missing directories (mode 0700).

    A file that exists is not touched, not even opened: closing any descriptor of it would drop the locks that this
    process holds on it. Raises `BackendError`.
    """
    try:
        missing = [parent for parent in path.parents if not parent.exists()]
        for directory in reversed(missing):
            directory.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))
    except FileExistsError:
        return  # another process was quicker
    except OSError as error:
        raise BackendError(f"the database {path} cannot be made: {error.strerror}") from error


@dataclass(slots=True)
class _Held:
    descriptor: int
    holders: int = 0


_held: dict[str, _Held] = {}
_held_lock = threading.Lock()


@contextmanager
def exclusive_lock(path: Path) -> Generator[None]:
    """Hold `<path>.lock` for this process: a second process is refused, components of this one share it.

    The lock belongs to the process so that a reload can open the new component before it closes the old one. The file
    stays when the lock is released (removing it would let two processes lock two files). Raises `BackendError`.
    """
    name = f"{path.resolve()}.lock"
    with _held_lock:
        held = _held.get(name)
        if held is None:
            held = _held[name] = _Held(_lock(name))
        held.holders += 1
    try:
        yield
    finally:
        with _held_lock:
            held.holders -= 1
            if not held.holders:
                del _held[name]
                os.close(held.descriptor)


def _lock(name: str) -> int:
    if sys.platform == "win32":
        raise BackendError("exclusive databases are not available on Windows")
    import fcntl  # noqa: PLC0415 - not there on Windows

    try:
        descriptor = os.open(name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackendError(f"the lock file {name} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise BackendError(
            f"the database is in use by another instance{f' (process {holder})' if holder else ''}, which holds {name}",
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
