"""The app `orders`: takes orders, asks `stock` for the goods, and keeps what was ordered.

    POST /orders {"item": "tea", "amount": 2}   201 and the order
    GET /orders/ID                              200 and the order

Both things that it needs from others go through the Dapr API: invocation of the app `stock`, by its name alone, and
the state store `statestore`. An order is kept under its id; the last one of an item under the item's name too.
"""

from __future__ import annotations

import urllib.parse
import uuid
from typing import Any

from web import Answer, dapr, serve

STATE = "/v1.0/state/statestore"


def handle(method: str, path: str, body: Any) -> Answer:
    """Answer one request."""
    if method == "POST" and path == "/orders":
        return place(body)
    if method == "GET" and path.startswith("/orders/"):
        return look_up(urllib.parse.unquote(path.removeprefix("/orders/")))
    return Answer(404, {"error": f"there is no {method} {path}"})


def place(wish: Any) -> Answer:
    """Reserve the goods, then keep the order."""
    match wish:
        case {"item": str(item), "amount": int(amount)} if item and amount > 0:
            pass
        case _:
            return Answer(400, {"error": 'an order looks like {"item": "tea", "amount": 2}'})
    reserved = dapr("POST", "/v1.0/invoke/stock/method/reserve", {"item": item, "amount": amount})
    if reserved.status != 200:
        return reserved
    order = {"id": uuid.uuid4().hex[:8], "item": item, "amount": amount}
    saved = dapr("POST", STATE, [{"key": order["id"], "value": order}, {"key": item, "value": order}])
    if saved.status != 204:  # a real shop would now give the goods back
        return Answer(503, {"error": "the order could not be kept", "cause": saved.body})
    return Answer(201, order | {"left": reserved.body["left"]})


def look_up(order_id: str) -> Answer:
    """Read an order from the state store."""
    found = dapr("GET", f"{STATE}/{urllib.parse.quote(order_id, safe='')}")
    if found.status == 204:
        return Answer(404, {"error": f"there is no order {order_id}"})
    return Answer(found.status, found.body)


if __name__ == "__main__":
    serve("orders", handle)
