"""A subscriber that can be killed at any point and still says what it accepted: `recording_app.py PORT FOLDER`.

Run as a process of its own, with the standard library alone. Each event's id is appended to `FOLDER/accepted` and
flushed to the disk *before* the event is answered with 200. One event in `RETRIED` is answered with RETRY when this
process sees it for the first time, and is recorded only when it comes again.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PUBSUB = "pubsub"
TOPICS = ("crash-a", "crash-b")
RETRIED = 97
"""Every so manieth number of a publisher is refused once."""


class Record:
    """The file of what was accepted."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "accepted", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def accept(self, message: str) -> bool:
        """Whether it is accepted now; then it is on the disk."""
        with self._lock:
            if int(message.rpartition("-")[2]) % RETRIED == 0 and message not in self._seen:
                self._seen.add(message)
                return False
            os.write(self._file, f"{message}\n".encode())
        os.fsync(self._file)  # outside the lock: events that come together wait together
        return True


def handler_for(record: Record) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self.path != "/dapr/subscribe":
                self._send(404, {})
                return
            self._send(200, [{"pubsubname": PUBSUB, "topic": topic, "route": "/events"} for topic in TOPICS])

        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._send(200, {"status": "SUCCESS" if record.accept(event["data"]["id"]) else "RETRY"})

        def _send(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            """Say nothing of single requests."""

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), handler_for(Record(Path(sys.argv[2])))) as server:
        server.serve_forever()
