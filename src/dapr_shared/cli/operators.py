"""Commands for operators of a running instance, over its Unix socket (design §5.19)."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from typing import TYPE_CHECKING

from dapr_shared.runtime.embedded import SOCKET_NAME, state_directory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TIMEOUT = 10.0
USAGE = """\
Usage: dapr-shared refresh APP [--data-dir DIR]

Ask an app again for its subscriptions: APP, or APP.NAMESPACE. The instance is the one that was started with the same
--data-dir by the same user."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path in place of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(str(self._path))


def refresh(words: Sequence[str]) -> int:
    """`dapr-shared refresh APP`; the exit code is 0, 1 (no instance, no such app) or 2 (wrong words)."""
    rest = list(words)
    directory = ""
    apps: list[str] = []
    while rest:
        word = rest.pop(0)
        if word in ("-h", "--help"):
            print(USAGE)
            return 0
        if word.startswith("--data-dir="):
            directory = word.partition("=")[2]
        elif word == "--data-dir" and rest:
            directory = rest.pop(0)
        elif word.startswith("-"):
            print(f"dapr-shared refresh: unknown flag {word}\n{USAGE}", file=sys.stderr)
            return 2
        else:
            apps.append(word)
    if len(apps) != 1:
        print(USAGE, file=sys.stderr)
        return 2
    return _post(state_directory(directory) / SOCKET_NAME, f"/refresh/{apps[0]}")


def _post(path: Path, target: str) -> int:
    connection = _UnixConnection(path)
    try:
        connection.request("POST", target)
        answer = connection.getresponse()
        message = json.loads(answer.read()).get("message", "")
    except PermissionError:
        print(f"dapr-shared: {path} belongs to another user: run this as the user of the instance", file=sys.stderr)
        return 1
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(
            f"dapr-shared: no instance answers at {path} ({error}): start one, or name its --data-dir",
            file=sys.stderr,
        )
        return 1
    finally:
        connection.close()
    done = answer.status < http.HTTPStatus.BAD_REQUEST
    print(message if done else f"dapr-shared: {message}", file=sys.stdout if done else sys.stderr)
    return 0 if done else 1
