"""JSON over HTTP with the standard library, both ways: the apps' server, and their calls to the Dapr API."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

DAPR = os.environ.get("DAPR_HTTP_ENDPOINT", "http://127.0.0.1:3500")
TOKEN = os.environ.get("DAPR_API_TOKEN", "")
PATIENCE = 10.0
"""Seconds that a call to the Dapr API may take."""

# A proxy that the environment names is not for calls to this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Answer(NamedTuple):
    """An HTTP answer with its JSON body; `None` for an empty one."""

    status: int
    body: Any = None
    etag: str | None = None


def dapr(method: str, path: str, body: Any = None) -> Answer:
    """Call the Dapr API. The token tells the shared instance which app calls; no other word in the request does."""
    request = urllib.request.Request(
        f"{DAPR}{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"dapr-api-token": TOKEN, "content-type": "application/json"},
    )
    try:
        with _OPENER.open(request, timeout=PATIENCE) as response:
            return _answer(response.status, response)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error.code, error)


def _answer(status: int, response: Any) -> Answer:
    text = response.read()
    return Answer(status, json.loads(text) if text else None, response.headers.get("etag"))


def serve(name: str, handle: Callable[[str, str, Any], Answer]) -> None:
    """Serve `handle(method, path, body)` on 127.0.0.1, port APP_PORT, until SIGTERM."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept and used again
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._respond(None)

        def do_POST(self) -> None:
            try:
                self._respond(json.loads(self.rfile.read(int(self.headers.get("content-length", "0")))))
            except ValueError:
                self._send(Answer(400, {"error": "the body is not JSON"}))

        def _respond(self, body: Any) -> None:
            try:
                answer = handle(self.command, self.path, body)
            except OSError as error:
                answer = Answer(503, {"error": f"the Dapr API does not answer: {error}"})
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            content = json.dumps(answer.body).encode() + b"\n"
            self.send_response(answer.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Handler)
    # `shutdown` waits for the loop below, so it cannot be called from a handler that interrupts that loop.
    signal.signal(signal.SIGTERM, lambda number, frame: threading.Thread(target=server.shutdown).start())  # noqa: ARG005
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.write(f"{name} listens on port {server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever(poll_interval=0.05)
