"""What `kubectl get apps` shows, as the API server makes a Table of it, of what a running instance has written."""

from __future__ import annotations

import json
import ssl
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import echo_app
from tests.support.instance import digest_of
from tests.support.kubernetes_client import ADMIN
from tests.support.kubernetes_instance import app, of_dapr, until

if TYPE_CHECKING:
    from tests.support.kubernetes_client import KubernetesClient

pytestmark = pytest.mark.kubernetes
PAGE = Path(__file__).parents[2] / "docs" / "kubernetes" / "app-status.md"
COLUMNS = {
    "Name": "string",
    "App ID": "string",
    "Ready": "boolean",
    "Address": "string",
    "Subscriptions": "integer",
    "Error": "string",
    "Age": "date",
}


def table(server: KubernetesClient, namespace: str) -> dict[str, Any]:
    """What kubectl asks for: the Apps of a namespace as the server's table."""
    path = f"/apis/shared.dapr.io/v1alpha1/namespaces/{namespace}/apps"
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    headers = {"Accept": accept, "Authorization": f"Bearer {ADMIN}"}
    request = urllib.request.Request(server.address + path, headers=headers)
    context = ssl.create_default_context(cafile=str(server.ca))
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        return json.load(answer)


def rows(server: KubernetesClient, namespace: str) -> dict[str, list[Any]]:
    """The cells after the name, but for the age, by name."""
    return {row["cells"][0]: row["cells"][1:-1] for row in table(server, namespace)["rows"]}


def test_columns(kinds, namespace, many):
    """App id, readiness, address, subscriptions and what is wrong stand in the columns, for apps of every condition."""
    subscription = {"pubsubname": "broker", "topic": "orders", "routes": {"default": "/o"}}
    with echo_app() as tea:
        kinds.apply(
            of_dapr("Component", "broker", {"type": "pubsub.in-memory", "version": "v1", "metadata": []}),
            of_dapr("Subscription", "orders", subscription, scopes=["tea", "away"]),
            app("named", appId="tea", channel={"port": tea.port, "address": "127.0.0.1"}),
            app("away", channel={"port": 9, "address": "127.0.0.1"}),
            app("quiet"),
            app("bad", configuration="missing", tokens=[{"sha256": digest_of("bad")}]),
            app("other", appId="tea", tokens=[{"sha256": digest_of("other")}]),
            namespace=namespace,
        )
        expected = {
            "named": ["tea", True, f"http://127.0.0.1:{tea.port}", 1, ""],
            "away": ["away", False, "http://127.0.0.1:9", 1, ""],
            "quiet": ["quiet", True, "", 0, ""],
            "bad": ["bad", False, "", 0, f"spec.configuration: there is no Configuration 'missing' in namespace {namespace}"],
            "other": ["tea", False, "", 0, f"the app tea.{namespace} is described already by App {namespace}/named"],
        }  # fmt: skip
        for name in ("bad", "other"):
            expected[name][-1] += " (it is left out)"
        with many() as instance:
            until(lambda: rows(kinds, namespace) == expected, "the columns", 40)
            found = table(kinds, namespace)
            columns = {one["name"]: one["type"] for one in found["columnDefinitions"]}
            assert columns == COLUMNS
            assert all(one["priority"] == 0 for one in found["columnDefinitions"]), "shown without -o wide"
            assert all(row["cells"][-1].endswith("s") for row in found["rows"]), "the age, in seconds so far"
            kinds.apply(of_dapr("Configuration", "missing", {}), namespace=namespace)
            expected["bad"] = ["bad", True, "", 0, ""]
            until(lambda: rows(kinds, namespace) == expected, "the columns of a mended App", 40)
            assert not [line for line in instance.log() if line["msg"] == "defect"]


def test_the_page_shows_these_columns():
    """The page about the status shows what kubectl prints: these columns, and the app id of an App that names none."""
    shown = PAGE.read_text(encoding="utf-8").partition("$ kubectl get apps\n")[2].partition("```")[0].splitlines()
    assert shown[0].split() == " ".join(COLUMNS).upper().split()
    assert [line.split()[:2] for line in shown[1:]] == [[name, name] for name in ("tea", "away", "bad")]
