"""Files below one folder and nowhere else.

Last step of the request road. A path is walked segment by segment from an open folder, and no link is ever followed, so
that neither `..` nor a symbolic link, nor one that is put there while we look, leads out. Runs in threads: nothing here
waits for the loop.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dapr_shared.contracts.component import BackendError
from dapr_shared.core.ids import random_id

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

MAX_LISTED = 100_000
"""Files of one list; where there are more, it is refused."""
MAX_DEPTH = 64
"""Folders within folders."""
_DRAFT = ".dapr-shared-draft-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ConfinedFolder:
    """A folder, by its resolved path. Every method raises `BackendError`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, data: bytes) -> str:
        """Write a file, in place of one of that name; its name as it is kept. A reader sees the old or the new one."""
        segments = _segments(name)
        if not segments:
            raise BackendError("fileName names no file")
        draft = _DRAFT + random_id()
        with _told(name), self._folder(segments[:-1], make=True) as folder:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(draft, segments[-1], src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(draft, dir_fd=folder)
                raise
        return "/".join(segments)

    def read(self, name: str, limit: int) -> bytes:
        """The content of a file of at most `limit` bytes; 0: any."""
        segments = _segments(name)
        if not segments:
            raise BackendError("fileName is required")
        with _told(name), self._folder(segments[:-1]) as folder:
            # Without blocking: opening a named pipe would wait for somebody to write.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            with os.fdopen(os.open(segments[-1], flags, dir_fd=folder), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise BackendError(f"{name!r} is no file")
                data = file.read(limit + 1) if limit else file.read()
        if limit and len(data) > limit:
            raise BackendError(f"{name!r} has more than {limit} bytes (maxFileSize)")
        return data

    def remove(self, name: str) -> None:
        """Remove a file, or a folder that is empty."""
        segments = _segments(name)
        if not segments:
            raise BackendError("fileName is required")
        with _told(name), self._folder(segments[:-1]) as folder:
            status = os.stat(segments[-1], dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(segments[-1], dir_fd=folder)
            elif stat.S_ISREG(status.st_mode):
                os.unlink(segments[-1], dir_fd=folder)
            else:
                raise BackendError(f"{name!r} is no file")

    def list(self, name: str) -> list[str]:
        """The absolute paths of all files below a folder (empty name: the whole), in order."""
        segments = _segments(name)
        found: list[str] = []
        with _told(name), self._folder(segments) as folder:
            self._walk(folder, self.root.joinpath(*segments), found, 0)
        return found

    def _walk(self, folder: int, path: Path, found: list[str], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise BackendError(f"{path} lies more than {MAX_DEPTH} folders deep")
        with os.scandir(folder) as entries:
            names = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False))
                for entry in entries
            )
        for name, is_folder, is_file in names:
            if is_folder:
                try:
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                except OSError:  # gone, or replaced by a link, meanwhile
                    continue
                try:
                    self._walk(inner, path / name, found, depth + 1)
                finally:
                    os.close(inner)
            elif is_file and not name.startswith(_DRAFT):
                if len(found) >= MAX_LISTED:
                    raise BackendError(f"there are more than {MAX_LISTED} files; list a folder further down")
                found.append(str(path / name))

    @contextmanager
    def _folder(self, segments: tuple[str, ...], *, make: bool = False) -> Generator[int]:
        """The open folder at the end of these segments."""
        current = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for segment in segments:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(segment, dir_fd=current)
                inner = os.open(segment, _FOLDER, dir_fd=current)
                os.close(current)
                current = inner
            yield current
        finally:
            os.close(current)


def _segments(name: str) -> tuple[str, ...]:
    """The segments of a name, which is always one below the folder: `/a` is `a`."""
    segments = tuple(segment for segment in name.split("/") if segment not in ("", "."))
    if ".." in segments or "\0" in name:
        raise BackendError("fileName must name a file below rootPath")
    if len(segments) > MAX_DEPTH or any(segment.startswith(_DRAFT) for segment in segments):
        raise BackendError("fileName is none that can be kept")
    return segments


@contextmanager
def _told(name: str) -> Generator[None]:
    """Turn errors of the system into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise BackendError(f"file not found: {name!r}") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise BackendError(f"{name!r} leads over a link or something that is no folder: refused") from error
        raise BackendError(f"{name!r}: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise BackendError("fileName is not valid Unicode") from error
