"""Hears of orders, and prints a mail for each."""

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

SUBSCRIPTIONS = [{"pubsubname": "pubsub", "topic": "ordered", "route": "/ordered"}]


class Mail(BaseHTTPRequestHandler):
    """What the instance calls."""

    def do_GET(self) -> None:
        """`/dapr/subscribe`: what it wants to hear of. `/healthz`: it is well."""
        self.answer(SUBSCRIPTIONS if self.path == "/dapr/subscribe" else {})

    def do_POST(self) -> None:
        """`/ordered`: an event."""
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        print(f"mail: your {event['data']['item']} is on its way", flush=True)
        self.answer({"status": "SUCCESS"})

    def answer(self, value: object) -> None:
        """Answer with JSON."""
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """No line for each request."""


HTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Mail).serve_forever()
