"""The page on state: its resources load, and its transaction does what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from tests.support.apps import until
from tests.support.instance import app, component, running
from tests.support.topic_apps import TopicApp, route, topic_app

PAGE = (Path(__file__).parents[2] / "docs" / "state.md").read_text(encoding="utf-8")
KEY = "00112233445566778899aabbccddeeff"


def blocks(mark: str) -> list[str]:
    """The code blocks that follow a comment."""
    return re.findall(rf"<!-- {mark} -->\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page(tmp_path):
    """All resources of the page load together; the shop and the back office share prices; the projection is published."""
    (tmp_path / "keys.json").write_text(json.dumps({"key-of-2026": KEY, "key-of-2025": KEY[::-1]}))
    resources = [one for text in blocks("load") for one in yaml.safe_load_all(text)]
    assert [one["metadata"]["name"] for one in resources] == ["prices", "vaulted", "orders", "pubsub"]
    with topic_app(TopicApp([route("newOrder")])) as listener:
        resources += [
            component("keys", "secretstores.local.file", secretsFile=str(tmp_path / "keys.json")),
            app("shop"),
            app("backoffice"),
            app("listener", listener.port),
        ]
        with running(tmp_path, resources=resources) as instance:
            body = b'[{"key":"tea","value":2}]'
            assert instance.ask("POST", "/v1.0/state/prices", body, app="shop").status == 204
            assert instance.ask("GET", "/v1.0/state/prices/tea", app="backoffice").json() == 2
            assert instance.ask("GET", "/v1.0/state/prices/tea", app="listener").status == 400
            assert instance.ask("POST", "/v1.0/state/vaulted", body, app="shop").status == 204
            assert instance.ask("GET", "/v1.0/state/vaulted/tea", app="shop").json() == 2
            instance.wait_for_line("subscription started", app_id="listener")
            (transaction,) = blocks("transact")
            answer = instance.ask("POST", "/v1.0/state/orders/transaction", transaction.encode(), app="shop")
            assert answer.status == 204
            until(lambda: listener.data() == [{"id": 7, "item": "tea"}])
            assert instance.ask("GET", "/v1.0/state/orders/7", app="shop").json()["card"] == "4111"
