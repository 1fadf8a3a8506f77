"""A small app for runs: `python run_app.py`. It serves its environment, and tells on standard output what it does.

It writes its process id, and that of a child that it starts, to `pids` in its directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Answers every request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """`/env`: the environment; `/dapr/…`: nothing to subscribe to."""
        path = self.path.partition("?")[0]
        if path == "/env":
            self._answer(200, dict(os.environ))
        elif path == "/dapr/subscribe":
            self._answer(200, [])
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        """Prints the body and sends it back."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        _say(f"got {body.decode()}")
        self._answer(200, {"app": os.environ["APP_ID"], "body": body.decode()})

    def log_message(self, *_: Any) -> None:
        """No lines of the server's own."""

    def _answer(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main() -> None:
    """Serve on APP_PORT."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Handler)
    Path("pids").write_text(f"{os.getpid()} {child.pid}", encoding="utf-8")
    _say(f"app {os.environ['APP_ID']} listens")
    server.serve_forever()


if __name__ == "__main__":
    main()
