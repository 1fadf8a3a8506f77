"""The app `mail`: writes a mail for each event of the topic `reserved`. Here "writes" means that it prints it.

It is started last, when there are already events for it, and may be stopped and started at any time.
"""

from __future__ import annotations

from typing import Any

from web import Answer, say, serve


def write(event: Any) -> Answer:
    """Print one mail."""
    order = event["data"]
    news = "is on its way" if order["enough"] else f"has to wait, only {order['left']} left"
    say(f"To {order['to']}: your order {order['order']} ({order['amount']} {order['item']}) {news}")
    return Answer(200)


if __name__ == "__main__":
    serve("mail", {"/reserved": write}, {"reserved": "/reserved"})
