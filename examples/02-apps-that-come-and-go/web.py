"""What the three apps share: JSON over HTTP with the standard library, calls to the Dapr API, a list of subscriptions."""

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
    from collections.abc import Callable, Mapping

DAPR = os.environ.get("DAPR_HTTP_ENDPOINT", "http://127.0.0.1:3500")
TOKEN = os.environ.get("DAPR_API_TOKEN", "")
PUBSUB = "pubsub"
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
    """Call the Dapr API as this app: the token says so. Raises `OSError` when it does not answer."""
    request = urllib.request.Request(
        f"{DAPR}{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"dapr-api-token": TOKEN, "content-type": "application/json"},
    )
    try:
        response = _OPENER.open(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        response = error  # an answer all the same
    with response:
        text = response.read()
        return Answer(response.status, json.loads(text) if text else None, response.headers.get("etag"))


def publish(topic: str, data: Any) -> bool:
    """Publish to a topic. True: the message is on disk, whatever happens to this process and to the instance."""
    return dapr("POST", f"/v1.0/publish/{PUBSUB}/{topic}", data).status == 204


def serve(name: str, routes: Mapping[str, Callable[[Any], Answer]], topics: Mapping[str, str] | None = None) -> None:
    """Serve on 127.0.0.1, port APP_PORT, until SIGTERM or Ctrl-C.

    `routes`: what answers a POST to each path. `topics`: the path to which the events of each topic are sent.
    """
    wanted = [{"pubsubname": PUBSUB, "topic": topic, "route": path} for topic, path in (topics or {}).items()]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept and used again
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            """The instance asks for the subscriptions whenever the app has become reachable."""
            self._send(Answer(200, wanted) if self.path == "/dapr/subscribe" else Answer(404))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            try:
                route = routes.get(self.path)
                answer = Answer(404) if route is None else route(json.loads(body))
            except ValueError:
                answer = Answer(400, {"error": "the body is not JSON"})
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

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing of requests that were answered."""

    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Handler)
    # `shutdown` waits for the loop below, so it cannot be called from a handler that interrupts that loop.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    say(f"{name} listens on port {server.server_port}")
    server.serve_forever(poll_interval=0.05)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
