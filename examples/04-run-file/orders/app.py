"""Takes orders: asks stock for the goods, keeps the order, and tells whoever listens."""

import json
import os
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DAPR = f"http://localhost:{os.environ['DAPR_HTTP_PORT']}/v1.0"
"""This app's own Dapr API. No token is needed: nobody else is given this port."""


def dapr(method: str, path: str, value: object = None) -> tuple[int, bytes]:
    """Call the Dapr API; status and body."""
    data = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(DAPR + path, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Orders(BaseHTTPRequestHandler):
    """`POST /orders` with {"id": …, "item": …}; `GET /orders/ID`."""

    def do_POST(self) -> None:
        """Take an order."""
        order = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, body = dapr("POST", f"/invoke/stock/method/reserve/{order['item']}", {})
        if status == 200:
            dapr("POST", "/state/statestore", [{"key": order["id"], "value": order}])
            dapr("POST", "/publish/pubsub/ordered", order)
            print(f"order {order['id']}: {order['item']}", flush=True)
        self.answer(status, body)

    def do_GET(self) -> None:
        """Show an order; it subscribes to nothing."""
        if self.path.startswith("/orders/"):
            self.answer(*dapr("GET", f"/state/statestore/{self.path.removeprefix('/orders/')}"))
        else:
            self.answer(404, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        """Answer with JSON."""
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """No line for each request."""


print(f"{os.environ['SHOP']} takes orders on {os.environ['APP_PORT']}", flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Orders).serve_forever()
