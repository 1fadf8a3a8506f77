"""The other processes that have a `pubsub.sqlite` file open: whether they live, and how they wake each other.

First step of the delivery road. Each open broker has two files in the directory `<file>.wake`, named at random:

    <name>.lock   locked (flock) as long as the process lives; the kernel unlocks it, however the process ends
    <name>.sock   a Unix datagram socket: who publishes rings it with the names of the topics

A datagram that cannot be sent is sent again a little later. Where a socket cannot be made, the slow look that every
broker takes at its file is what wakes it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from dapr_shared.contracts.component import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

HELLO = b"?"
"""A datagram: there is a new neighbour, look around."""
ALL_TOPICS = b"*"
LARGEST = 8192
"""Bytes of a datagram; longer lists of topics become `ALL_TOPICS`."""
AGAIN = 0.05
"""Seconds until what could not be sent is sent again."""
_LONGEST_ADDRESS = 100
"""Bytes of a socket's path that every system takes."""
_GONE = {errno.ENOENT, errno.ECONNREFUSED, errno.ENOTSOCK, errno.EPROTOTYPE}


class Neighbours:
    """This process's two files, and those of the others. `open` before anything else; `close` removes them."""

    def __init__(self, file: Path, rung: Callable[[Collection[str] | None], None]) -> None:
        self.name = secrets.token_hex(8)
        self._directory = file.with_name(f"{file.name}.wake")
        self._rung = rung
        self._lock: int | None = None
        self._folder: int | None = None
        self._socket: socket.socket | None = None
        self._others: set[str] = set()
        self._unsent: dict[str, set[str]] = {}
        self._sending: asyncio.Handle | None = None

    @property
    def alone(self) -> bool:
        """Whether no other process was there at the last look."""
        return not self._others

    def open(self) -> None:
        """Make the files and tell the others. Raises `BackendError`."""
        if sys.platform == "win32":
            raise BackendError("pubsub.sqlite is not available on Windows")
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._lock = _locked_file(self._directory / self.name)
        except OSError as error:
            raise BackendError(f"{self._directory} cannot be used: {error.strerror}") from error
        with suppress(OSError):
            self._listen()
        self.look()
        for other in self._others:
            self._send(other, HELLO)

    def close(self) -> None:
        """Remove the files."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._lock is not None:
            self.forget(self.name)
            os.close(self._lock)
            self._lock = None
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None
        self._others.clear()
        self._unsent.clear()

    def look(self) -> None:
        """See who is there."""
        with suppress(OSError):
            names = {path.stem for path in self._directory.iterdir() if path.suffix == ".lock"}
            self._others = names - {self.name}

    def lives(self, name: str) -> bool:
        """Whether the process of that name is alive."""
        import fcntl  # noqa: PLC0415 - not there on Windows

        try:
            descriptor = os.open(self._directory / f"{name}.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def forget(self, name: str) -> None:
        """Remove the files of a process that is dead, or of this one."""
        self._others.discard(name)
        self._unsent.pop(name, None)
        for ending in ("sock", "lock"):
            with suppress(OSError):
                (self._directory / f"{name}.{ending}").unlink()

    def strangers(self, known: Collection[str]) -> list[str]:
        """The others whose names are not among these."""
        return [name for name in self._others if name not in known]

    def ring(self, topic: str) -> None:
        """Wake the others for the topic, soon."""
        if not self._others:
            return
        for other in self._others:
            self._unsent.setdefault(other, set()).add(topic)
        if self._sending is None:
            self._sending = asyncio.get_running_loop().call_soon(self._send_all)

    def _listen(self) -> None:
        directory = str(self._directory)
        if len(os.fsencode(directory)) + len(self.name) + 6 > _LONGEST_ADDRESS and sys.platform == "linux":
            self._folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            opened.settimeout(0)
            opened.bind(self._address(self.name))
            asyncio.get_running_loop().add_reader(opened.fileno(), self._hear, opened)
        except BaseException:
            opened.close()
            raise
        self._socket = opened

    def _address(self, name: str) -> str:
        folder = str(self._directory) if self._folder is None else f"/proc/self/fd/{self._folder}"
        return f"{folder}/{name}.sock"

    def _hear(self, opened: socket.socket) -> None:
        topics: set[str] | None = set()
        for _ in range(64):
            try:
                datagram = opened.recv(2 * LARGEST)
            except OSError:
                break
            if datagram == HELLO:
                self.look()
                continue
            try:
                names = msgspec.json.decode(datagram, type=list[str])
            except msgspec.DecodeError:
                topics = None
            else:
                if topics is not None:
                    topics.update(names)
        if topics is None or topics:
            self._rung(topics)

    def _send_all(self) -> None:
        self._sending = None
        unsent, self._unsent = self._unsent, {}
        for other, topics in unsent.items():
            datagram = msgspec.json.encode(sorted(topics))
            if not self._send(other, datagram if len(datagram) <= LARGEST else ALL_TOPICS):
                self._unsent[other] = topics
        if self._unsent:
            self._sending = asyncio.get_running_loop().call_later(AGAIN, self._send_all)

    def _send(self, other: str, datagram: bytes) -> bool:
        """Send; false where it is worth trying again."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto(datagram, self._address(other))
        except OSError as error:
            return error.errno in _GONE  # its end is found, and cleaned up, by the next look at the owners
        return True


def _locked_file(path: Path) -> int:
    """A locked file `<path>.lock`; it appears under its name when it is locked."""
    import fcntl  # noqa: PLC0415 - not there on Windows

    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(path.with_suffix(".lock"))
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):
            new.unlink()
        raise
    return descriptor
