"""The operators' door: a socket of the user's own, and the command that uses it."""

from __future__ import annotations

import stat
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.apps import until
from tests.support.calls import ask
from tests.support.instance import app, run_to_end, running, token_of


@pytest.fixture
def data():
    """A data directory with a short path: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ds-") as folder:
        yield Path(folder)


@pytest.fixture
def lister():
    """An app that answers `/dapr/subscribe` with the topics of a list that the test changes."""
    topics: list[str] = []
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append(self.path)
            rows = ",".join(f'{{"pubsubname":"pubsub","topic":"{topic}","route":"/{topic}"}}' for topic in topics)
            body = f"[{rows}]".encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, topics, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_refresh_asks_an_app_again(tmp_path, data, lister):
    """`dapr-shared refresh APP` makes the instance read the app's subscriptions again, without a restart of either."""
    port, topics, asked = lister
    with running(tmp_path, f"--data-dir={data}", resources=[app("mail", port)]) as instance:
        until(lambda: asked)
        assert stat.S_IMODE((data / "operators.sock").stat().st_mode) == 0o600
        topics.append("news")
        code, said = run_to_end(tmp_path, "refresh", "mail", "--data-dir", str(data))
        assert (code, said.strip()) == (0, "app mail.default is asked again for its subscriptions")

        def subscribed() -> bool:
            answer = ask(instance.http, "GET", "/v1.0/metadata", headers=[("dapr-api-token", token_of("mail"))])
            return '"topic":"news"' in answer.body.decode()

        until(subscribed)
        code, said = run_to_end(tmp_path, "refresh", "nobody", "--data-dir", str(data))
        assert (code, said.strip()) == (1, "dapr-shared: this instance serves no app nobody.default")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "Usage: dapr-shared refresh APP"),
        (["a", "b"], 2, "Usage: dapr-shared refresh APP"),
        (["a", "--nope"], 2, "unknown flag --nope"),
        (["--help"], 0, "Usage: dapr-shared refresh APP"),
        (["a", "--data-dir", "/nonexistent"], 1, "no instance answers at /nonexistent/operators.sock"),
    ],
)
def test_wrong_words_and_no_instance(tmp_path, words, code, message):
    """Wrong words and a missing instance are told in a line, with the exit code of each."""
    found, said = run_to_end(tmp_path, "refresh", *words)
    assert found == code
    assert message in said
    assert "Traceback" not in said


def test_a_second_instance_leaves_the_door_to_the_first(tmp_path, data):
    """Of two instances with one data directory the second says that the first holds its store, and ends."""
    with running(tmp_path / "one", f"--data-dir={data}", resources=[app("a")]):
        code, said = run_to_end(
            tmp_path, "run", "--app-id", "b", "--data-dir", str(data), "--dapr-http-port", "0", "--dapr-grpc-port", "0",
            "--metrics-port", "0",
        )  # fmt: skip
        assert code == 1
        assert "statestore" in said or "pubsub" in said
