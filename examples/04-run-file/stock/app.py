"""Has goods, until there are none left. It only answers: it calls nobody."""

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

left = {"tea": int(os.environ["TEA"])}


class Stock(BaseHTTPRequestHandler):
    """`POST /reserve/ITEM`."""

    def do_POST(self) -> None:
        """Give one away."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        item = self.path.rpartition("/")[2]
        if left.get(item, 0) > 0:
            left[item] -= 1
            self.answer(200, {"item": item, "left": left[item]})
        else:
            self.answer(409, {"item": item, "error": "sold out"})

    def do_GET(self) -> None:
        """It subscribes to nothing."""
        self.answer(404, {})

    def answer(self, status: int, value: object) -> None:
        """Answer with JSON."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """No line for each request."""


print(f"{left['tea']} packets of tea", flush=True)
HTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Stock).serve_forever()
