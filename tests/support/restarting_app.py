"""An HTTP app as a process of its own: `restarting_app.py PORT OUTPUT [NAME…]` wants these bindings and topics of `pubsub`.

Each call that it gets is a line of OUTPUT, `VERB PATH`. Connections are kept open. Without names it wants nothing.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def main(port: int, output: Path, names: list[str]) -> None:
    """Serve until killed."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            """As ever; a connection that is cut is no trouble."""
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

        def _serve(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            with output.open("a", encoding="utf-8") as stream:
                stream.write(f"{self.command} {self.path}\n")
            topics = [{"pubsubname": "pubsub", "topic": name, "route": f"topics/{name}"} for name in names]
            body = json.dumps(topics).encode() if self.path == "/dapr/subscribe" else b""
            known = self.path.strip("/") in names or self.path.startswith(("/topics/", "/dapr/subscribe"))
            self.send_response(200 if known else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_OPTIONS = _serve  # noqa: N815 - the base class's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            """Say nothing of single requests."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
