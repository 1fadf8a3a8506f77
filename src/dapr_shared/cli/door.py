"""The command line's side of the operators' socket (design §5.19): typed questions and answers.

Light on purpose: it uses the standard library's HTTP client, and none of the instance's code but the answers' types.
"""

from __future__ import annotations

import http.client
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from dapr_shared.cli.problem import USAGE, CommandError
from dapr_shared.runtime.embedded import SOCKET_NAME, state_directory
from dapr_shared.runtime.operators import places
from dapr_shared.runtime.operators.answers import ACTED_HEADER, API_VERSION, PREFIX, VERSION_HEADER, Message

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

TIMEOUT = 10.0
"""Seconds until the instance must have answered."""
LONGEST_SOCKET_PATH = 107

T = TypeVar("T")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path in place of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(str(self._path))


def data_directory(given: str) -> Path:
    """The data directory of the instance that is meant.

    Given: that one. Else the one where an instance of this user runs; the default one where none does. Raises
    `CommandError` where several run: nobody is guessed.
    """
    if given:
        return state_directory(given)
    running = places.running()
    if len(running) > 1:
        listed = ", ".join(f"--data-dir {place}" for place in running)
        raise CommandError(f"{len(running)} instances run: choose one with {listed}", USAGE)
    return running[0] if running else state_directory("")


class Door:
    """One instance, asked over its socket."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / SOCKET_NAME
        if len(str(self.path).encode()) > LONGEST_SOCKET_PATH:
            raise CommandError(
                f"{self.path} is longer than the {LONGEST_SOCKET_PATH} bytes that a socket's path may have: "
                "choose a shorter --data-dir"
            )

    def get(self, what: str, answer: type[T], **query: str) -> T:
        """Ask for something. Raises `CommandError`."""
        with self._asked("GET", what, query) as response:
            return _decoded(response, answer)

    def post(self, what: str) -> str:
        """Have something done; what the instance says about it. Raises `CommandError`."""
        with self._asked("POST", what, {}) as response:
            return _decoded(response, Message).message

    def lines(self, what: str, *, endless: bool, **query: str) -> Iterator[bytes]:
        """An answer that comes in lines. `endless`: it may be silent for any time. Raises `CommandError`."""
        with self._asked("GET", what, query, endless=endless) as response:
            if response.status != http.HTTPStatus.OK:
                _decoded(response, Message)
            try:
                yield from iter(response.readline, b"")
            except (OSError, http.client.HTTPException) as error:
                raise CommandError("the instance has ended") from error

    @contextmanager
    def call(
        self, verb: str, what: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Generator[http.client.HTTPResponse]:
        """A call as an app; the answer is the API's, whatever its status. Raises `CommandError` without one."""
        with self._asked(verb, what, {}, body=body, headers=headers, endless=True) as response:
            if not response.getheader(ACTED_HEADER):
                raise CommandError(_decoded(response, Message).message)
            yield response

    @contextmanager
    def _asked(
        self,
        verb: str,
        what: str,
        query: Mapping[str, str],
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        endless: bool = False,
    ) -> Generator[http.client.HTTPResponse]:
        connection = _UnixConnection(self.path)
        given = {name: value for name, value in query.items() if value}
        target = f"{PREFIX}/{what}" + (f"?{urlencode(given)}" if given else "")
        try:
            try:
                connection.connect()
                if endless:
                    connection.sock.settimeout(None)
                connection.request(verb, target, body=body, headers=dict(headers or {}))
                response = connection.getresponse()
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise self._failed(error) from error
            with response:
                _check_version(response)
                yield response
        finally:
            connection.close()

    def _failed(self, error: Exception) -> CommandError:
        if isinstance(error, PermissionError):
            return CommandError(f"{self.path} belongs to another user: run this as the user of the instance")
        if isinstance(error, TimeoutError):
            return CommandError(
                f"the instance at {self.path} does not answer within {TIMEOUT:g} s: it is busy or stopped"
            )
        if isinstance(error, http.client.HTTPException | ValueError):
            return CommandError(f"what answers at {self.path} is no instance of dapr-shared: name the right --data-dir")
        others = [place for place in places.running() if place / SOCKET_NAME != self.path]
        instead = f"; one runs with --data-dir {others[0]}" if others else ""
        return CommandError(
            f"no instance answers at {self.path}: start one with `dapr-shared run`, or name its --data-dir{instead}"
        )


def _check_version(response: http.client.HTTPResponse) -> None:
    spoken = response.getheader(VERSION_HEADER, "")
    if not spoken:
        raise CommandError(
            "the running instance is older than this command: restart it with this version of dapr-shared"
        )
    if spoken != str(API_VERSION):
        raise CommandError(
            f"the running instance speaks version {spoken[:20]} of the operators' API, this command version "
            f"{API_VERSION}: use the command of the instance's own version"
        )


def _decoded(response: http.client.HTTPResponse, answer: type[T]) -> T:
    try:
        content = response.read()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise CommandError(msgspec.json.decode(content, type=Message).message)
        return msgspec.json.decode(content, type=answer)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise CommandError(
            f"the instance did not answer what was asked ({error}): is it of another version?"
        ) from error


def path_of(*parts: str) -> str:
    """A path of the door from parts that may hold anything."""
    return "/".join(quote(part, safe="") for part in parts)
