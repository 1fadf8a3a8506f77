"""What each command prints, to the letter: the whole command against a door that answers what an instance would.

The texts are in `golden/`, one file a command and form. After a change that is meant: `GOLDEN=write`, then read the
difference before it is committed.
"""

from __future__ import annotations

import os
import re
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import msgspec
import pytest
from rich.cells import cell_len

from dapr_shared.cli import doctor as doctor_module
from dapr_shared.cli import output as output_module
from dapr_shared.cli.main import main
from dapr_shared.runtime.operators.answers import (
    ACTED_HEADER,
    API_VERSION,
    VERSION_HEADER,
    AppRow,
    ComponentRow,
    Finding,
    Message,
    MetricRow,
    Metrics,
    Status,
    SubscriptionRow,
)

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
ANSWERS = {
    "apps": [
        AppRow(
            id="orders", namespace="default", channel="http://127.0.0.1:8001", reachable=True, healthy=True,
            since=NOW - timedelta(hours=3), calls=2, deliveries=1, evidence=["token", "listener"],
            listeners=["http 127.0.0.1:3601", "grpc 127.0.0.1:50601"],
        ),
        AppRow(id="mail", namespace="shop", channel="grpc://127.0.0.1:8002", reachable=False, since=NOW, evidence=["token (2)"]),
        AppRow(id="cron", namespace="default"),
    ],
    "components": [
        ComponentRow(name="statestore", type="state.redis", version="v1", namespace="default", health="ok", capabilities=["CRUD", "TTL"]),
        ComponentRow(
            name="pubsub", type="pubsub.redis", version="v1", namespace="default", app="mail", scopes=["mail"], health="failing",
            last_error="redis.test:6379 does not answer: connection refused", last_error_at=NOW,
        ),
    ],
    "subscriptions": [
        SubscriptionRow(app="mail", namespace="default", pubsub="pubsub", topic="orders", kind="declarative", state="active", pending=0, dead_letter="lost"),
        SubscriptionRow(
            app="mail", namespace="default", pubsub="pubsub", topic="news", kind="programmatic", state="paused",
            reason="the app does not accept connections", since=NOW - timedelta(minutes=5), pending=12,
        ),
    ],
    "metrics": Metrics(
        rows=[
            MetricRow(name="dapr_http_server_request_count", labels={"app_id": "orders", "status": "200"}, value=1234567.0),
            MetricRow(name="dapr_shared_span_dropped_total", labels={"reason": "export"}, value=0.5),
        ]
    ),
    "doctor": [
        Finding(check="apps", status=Status.OK, about="2 apps reachable as far as they have a channel"),
        Finding(check="tokens", status=Status.WARNING, about="DAPR_API_TOKEN has fewer than 16 characters", remedy="make a longer one"),
        Finding(check="components", status=Status.ERROR, about="the backend does not answer", remedy="see whether the server runs"),
    ],
}  # fmt: skip
LOG = (
    b'{"time":"2026-03-04T12:00:00.000001Z","level":"info","type":"log","msg":"ready","scope":"dapr.runtime","app_id":"","seconds":0.2}\n'
    b'{"time":"2026-03-04T12:00:01.000001Z","level":"warning","type":"log","msg":"app is not reachable","scope":"dapr.runtime.apps",'
    b'"app_id":"mail","namespace":"default"}\n'
)


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        what = self.path.removeprefix(f"/v{API_VERSION}/").partition("?")[0]
        self._send(LOG if what == "logs" else msgspec.json.encode(ANSWERS[what]))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.endswith("/refresh"):
            told = Message(message="app mail.default is asked again for its subscriptions")
            self._send(msgspec.json.encode(told), status=202)
        elif "/publish/" in self.path:
            self._send(b"", (ACTED_HEADER, "true"), status=204)
        elif self.path.endswith("/refuse"):
            self._send(b"no such tea", (ACTED_HEADER, "true"), ("content-type", "text/plain"), status=409)
        else:
            self._send(b'{"id":1,"item":"tea"}', (ACTED_HEADER, "true"), ("content-type", "application/json"))

    def _send(self, body: bytes, *headers: tuple[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in ((VERSION_HEADER, str(API_VERSION)), ("content-length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        if body:  # who got a head without one may be gone already
            self.wfile.write(body)

    def address_string(self) -> str:
        return "a Unix socket"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing of single requests."""


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


class _Fixed(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


@pytest.fixture
def door(tmp_path, monkeypatch):
    """A data directory whose door answers; the time stands still, and what `doctor` finds on this machine is nothing."""
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 107 bytes
    monkeypatch.setattr(output_module, "datetime", _Fixed)
    monkeypatch.setattr(doctor_module.outside, "machine", lambda _: [])
    monkeypatch.setattr(doctor_module.outside, "of_instance", lambda _: [])
    monkeypatch.setattr(doctor_module, "InstanceInfo", list[AppRow])
    monkeypatch.setitem(ANSWERS, "instance", ANSWERS["apps"])
    with _Server("operators.sock", _Door) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield tmp_path
        server.shutdown()
        thread.join()


COMMANDS = {
    "apps": (["apps"], 0),
    "components": (["components"], 0),
    "subscriptions": (["subscriptions"], 0),
    "metrics": (["metrics"], 0),
    "doctor": (["doctor"], 1),
    "logs": (["logs"], 0),
    "refresh": (["refresh", "mail"], 0),
    "publish": (["publish", "pubsub", "orders", '{"id":1}', "--as", "cron"], 0),
    "invoke": (["invoke", "orders", "orders", "--data", "{}"], 0),
    "invoke-refused": (["invoke", "orders", "refuse", "--data", "{}"], 1),
}


@pytest.mark.parametrize("form", ["", "json", "yaml"])
@pytest.mark.parametrize("name", COMMANDS)
def test_output(door, capfdbinary, name, form):
    """Each command, as text for a pipe and as JSON and YAML."""
    words, code = COMMANDS[name]
    assert main([*words, "--data-dir", ".", *(["--output", form] if form else [])]) == code
    told = capfdbinary.readouterr()
    assert told.err.count(b"\n") == (1 if name == "invoke-refused" else 0)
    _compare(f"{name}.{form or 'txt'}", told.out.decode())


@pytest.mark.parametrize("name", ["apps", "components", "subscriptions", "metrics"])
def test_table_of_80_columns(door, capsys, monkeypatch, name):
    """A terminal of 80 columns has a table that fits, and below it what was left out."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main([name, "--data-dir", "."]) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    _compare(f"{name}.80.txt", "".join(f"{line.rstrip()}\n" for line in text.splitlines()))


@pytest.mark.parametrize("form", ["", "json", "yaml"])
def test_a_token(capsys, monkeypatch, form):
    """A new token, its digest, and where each goes."""
    monkeypatch.setattr(
        "dapr_shared.cli.tokens.secrets.token_urlsafe", lambda _: "not-a-secret-43-characters-long-0123456789a"
    )
    assert main(["token", "new", "orders", *(["--output", form] if form else [])]) == 0
    _compare(f"token-new.{form or 'txt'}", capsys.readouterr().out)


@pytest.mark.parametrize("name", ["apps", "components", "subscriptions", "metrics", "doctor"])
@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_watch(door, capsys, monkeypatch, name, form):
    """`--watch` looks again, into a pipe one text or document a look, until Ctrl-C, which ends it with 0."""
    looks = iter([None, None])

    def next_look(_seconds: float) -> None:
        if next(looks, KeyboardInterrupt) is KeyboardInterrupt:
            raise KeyboardInterrupt

    monkeypatch.setattr("dapr_shared.cli.views.time.sleep", next_look)
    assert main([name, "--watch", "--data-dir", ".", "--output", form]) == 0
    told = capsys.readouterr().out
    if form == "json":
        assert len(told.splitlines()) == 3
    else:
        whole = (GOLDEN / f"{name}.{'txt' if form == 'table' else form}").read_text()
        assert told.count(whole) == 3
    assert main([name, "--watch", "--data-dir", ".", "--interval", "nan"]) == 2


def _compare(name: str, text: str) -> None:
    file = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()
