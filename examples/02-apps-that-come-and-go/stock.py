"""The app `stock`: takes the goods of each order out of stock and publishes the result to the topic `reserved`.

An event may come more than once (at least once is what a broker promises). So the count of the item and the note that
this order is done are saved in one transaction: an order that comes again finds the note and takes nothing.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

from web import Answer, dapr, publish, serve

STATE = "/v1.0/state/statestore"
FULL = 100
"""What there is of an item that nobody has asked for yet."""
AGAIN = Answer(503, {"error": "later"})
"""Any answer that is no success: the instance brings the event again."""


def reserve(event: Any) -> Answer:
    """Work on one event of `orders`; only when it is done and told is it answered with 200."""
    order = event["data"]
    note = f"order {order['order']}"
    done = read(note)
    if done.status == 200:
        result = done.body  # it was done before, and perhaps not told
    else:
        found = read(f"left {order['item']}")
        left = found.body if found.status == 200 else FULL
        enough = order["amount"] <= left
        left -= order["amount"] if enough else 0
        result = order | {"left": left, "enough": enough}
        if not save(f"left {order['item']}", left, found.etag, note, result):
            return AGAIN  # another event of this item was faster
    return Answer(200) if publish("reserved", result) else AGAIN


def read(key: str) -> Answer:
    """The value of a key: 200, or 204 when there is none. Raises `OSError` for anything else."""
    found = dapr("GET", f"{STATE}/{urllib.parse.quote(key, safe='')}")
    if found.status not in (200, 204):
        raise OSError(str(found.body))
    return found


def save(count: str, left: int, etag: str | None, note: str, result: Any) -> bool:
    """Save both or neither; not if the count is no longer the one that was read."""
    request = {"key": count, "value": left, "options": {"concurrency": "first-write"}}
    operations = [
        {"operation": "upsert", "request": request | ({"etag": etag} if etag else {})},
        {"operation": "upsert", "request": {"key": note, "value": result}},
    ]
    return dapr("POST", f"{STATE}/transaction", {"operations": operations}).status == 204


if __name__ == "__main__":
    serve("stock", {"/orders": reserve}, {"orders": "/orders"})
