"""The app `order`: takes orders and publishes them to the topic `orders`.

    POST /orders {"item": "tea", "amount": 2, "to": "ann@example.org"}   202 {"order": ID}

It knows neither `stock` nor `mail`, and does not mind whether they run.
"""

from __future__ import annotations

import uuid
from typing import Any

from web import Answer, publish, serve


def place(wish: Any) -> Answer:
    """Accept an order: 202 says that the message is safe, not that somebody has worked on it."""
    match wish:
        case {"item": str(item), "amount": int(amount), "to": str(to)} if item and amount > 0:
            pass
        case _:
            return Answer(400, {"error": 'an order looks like {"item": "tea", "amount": 2, "to": "ann@example.org"}'})
    order = {"order": uuid.uuid4().hex[:8], "item": item, "amount": amount, "to": to}
    if not publish("orders", order):
        return Answer(503, {"error": "the order was not taken: try again"})
    return Answer(202, {"order": order["order"]})


if __name__ == "__main__":
    serve("order", {"/orders": place})
