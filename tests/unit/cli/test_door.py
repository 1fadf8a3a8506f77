from __future__ import annotations

import os
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from dapr_shared.cli.door import Door, data_directory
from dapr_shared.cli.problem import CommandError
from dapr_shared.runtime.operators import places
from dapr_shared.runtime.operators.answers import Apps


@pytest.fixture
def home(monkeypatch):
    """A state directory of the test's own, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ds-") as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        yield Path(folder)


@contextmanager
def answering(folder: Path, answer: bytes):
    """A socket in that data directory that answers every connection with these bytes; empty: it only takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(folder / "operators.sock"))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                if answer and peer.recv(65536):
                    peer.sendall(answer)

    thread = Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        (folder / "operators.sock").unlink()


def head(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), b"connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (head(b'{"message":"there is no GET /v1/apps"}', status=b"404 Not Found"), "is older than this command"),
        (head(b"[]", b"dapr-shared-operators: 7"), "speaks version 7 of the operators' API"),
        (head(b"{]", b"dapr-shared-operators: 1"), "did not answer what was asked"),
        (head(b'[{"id":1}]', b"dapr-shared-operators: 1"), "did not answer what was asked"),
        (head(b'{"message":"no"}', b"dapr-shared-operators: 1", status=b"404 Not Found"), "no"),
        (b"SSH-2.0-OpenSSH\r\n", "is no instance of dapr-shared"),
    ],
)
def test_what_answers_wrongly_is_told_in_a_line(home, answer, told):
    """An old instance, a newer one, garbage and a refusal each have their sentence."""
    with answering(home / "data", answer), pytest.raises(CommandError) as caught:
        Door(home / "data").get("apps", Apps)
    assert told in caught.value.message
    assert caught.value.code == 1
    assert "\n" not in caught.value.message


def test_nobody_there(home):
    """Without an instance the line says where was looked and what to do; so too where a dead one left its socket."""
    with pytest.raises(CommandError, match=r"no instance answers at .*operators\.sock: start one with"):
        Door(home / "data").get("apps", Apps)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(home / "operators.sock"))
    left.close()
    with pytest.raises(CommandError, match="no instance answers at"):
        Door(home).get("apps", Apps)


def test_another_users_instance(home, monkeypatch):
    """A socket that this user may not open is told as another user's."""

    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dapr_shared.cli.door.socket.socket.connect", refuse, raising=False)
    with pytest.raises(CommandError, match="belongs to another user: run this as the user of the instance"):
        Door(home).get("apps", Apps)


def test_a_path_too_long_for_a_socket(tmp_path):
    """A data directory whose socket no kernel would bind is told before anything is tried."""
    with pytest.raises(CommandError, match="choose a shorter --data-dir"):
        Door(tmp_path / ("x" * 120))


def test_the_running_instance_is_found(home):
    """Without --data-dir the one instance that runs is taken, wherever it keeps its data; of several none is guessed."""
    first, second = home / "one", home / "two"
    assert data_directory("") == home / "dapr-shared"
    with answering(first, b""):
        places.note(first)
        assert data_directory("") == first
        with answering(second, b""):
            places.note(second)
            with pytest.raises(CommandError) as caught:
                data_directory("")
            assert caught.value.code == 2
            assert f"--data-dir {first}" in caught.value.message
            assert f"--data-dir {second}" in caught.value.message
            assert data_directory(str(second)) == second
    assert places.running() == []
    assert not list((home / "dapr-shared" / "instances").glob("*.json"))  # what a killed one left is removed


def test_notes_are_for_their_user_alone(home):
    """The folder of the notes is closed to others, and a place that cannot be noted costs nothing."""
    file = places.note(home / "one")
    assert file is not None
    assert file.parent.stat().st_mode & 0o077 == 0
    places.forget(file)
    places.forget(file)
    (home / "dapr-shared" / "instances").rmdir()
    (home / "dapr-shared" / "instances").write_text("in the way")
    assert places.note(home / "one") is None
    assert os.path.lexists(home / "dapr-shared" / "instances")
