"""An app as users write it, with nothing of dapr-shared: FastAPI and Dapr's SDK.

It subscribes to the topic that TOPIC names (`orders`), keeps in memory what it was given, and answers calls with the
node that it runs on.
"""

from __future__ import annotations

import os
from typing import Any

import uvicorn
from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI

app = FastAPI()
dapr = DaprApp(app)
received: list[Any] = []


@dapr.subscribe(pubsub="pubsub", topic=os.environ.get("TOPIC", "orders"))
def order(event: dict) -> dict[str, str]:
    """Take an order."""
    received.append(event["data"])
    return {"status": "SUCCESS"}


@app.get("/received")
def list_received() -> list[Any]:
    """The orders taken so far."""
    return received


@app.get("/where")
def where() -> dict[str, str]:
    """The node and the pod."""
    return {"node": os.environ["NODE_NAME"], "pod": os.environ["HOSTNAME"]}


if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=8000)
