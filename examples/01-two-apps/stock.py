"""The app `stock`: how many of each item there are.

    POST /reserve {"item": "tea", "amount": 2}   200 {"item": "tea", "left": 98}, or 409 if there are too few

It keeps a number under each item's name, in the state store `statestore`. The app `orders` uses the same store and the
same keys, and neither sees the other's values.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

from web import Answer, dapr, serve

STATE = "/v1.0/state/statestore"
FULL = 100
"""What there is of an item that nobody has asked for yet."""
TRIES = 10


def handle(method: str, path: str, body: Any) -> Answer:
    """Answer one request."""
    if (method, path) != ("POST", "/reserve"):
        return Answer(404, {"error": f"there is no {method} {path}"})
    return reserve(body["item"], body["amount"])


def reserve(item: str, amount: int) -> Answer:
    """Take items out of stock. Two requests at once cannot take the same ones: a stale write is refused, and tried again."""
    for _ in range(TRIES):
        found = dapr("GET", f"{STATE}/{urllib.parse.quote(item, safe='')}")
        if found.status not in (200, 204):
            return Answer(503, {"error": "the state store does not answer", "cause": found.body})
        left = FULL if found.status == 204 else found.body
        if left < amount:
            return Answer(409, {"error": f"only {left} of {item} left"})
        # Without an etag, first-write means: only if the key is still absent.
        entry = {"key": item, "value": left - amount, "options": {"concurrency": "first-write"}}
        saved = dapr("POST", STATE, [entry | ({"etag": found.etag} if found.etag else {})])
        if saved.status == 204:
            return Answer(200, {"item": item, "left": left - amount})
        if saved.status != 409:
            return Answer(503, {"error": "the state store does not answer", "cause": saved.body})
    return Answer(503, {"error": f"too many want {item} at once"})


if __name__ == "__main__":
    serve("stock", handle)
