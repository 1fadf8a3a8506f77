"""What is said of the rights of the runtime is what the chart renders: in messages and in docs/kubernetes/rights.md."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from dapr_shared.core.rights import RIGHTS, ChartRole
from tests.support.chart import CHART, merged, of_kind, render
from tests.support.kubernetes_rights import Verb, verbs_of

pytestmark = pytest.mark.kubernetes
MANY: dict[str, Any] = {"multiApp": {"enabled": True}}
ONE: dict[str, Any] = {"appId": "orders", "remotePort": 1, "daprd": {"token": "tea"}}
TOKENS: dict[str, Any] = {"identity": {"serviceAccountAudience": "dapr-shared"}}
KEYS: dict[str, Any] = {"identity": {"serviceAccountVerification": "keys"}}
FULL = merged(MANY, TOKENS, {"identity": {"byAddress": True}, "daprd": {"config": "own"}})
FORMS = [ONE, MANY, FULL, merged(FULL, KEYS), merged(FULL, {"watchNamespaces": ["*"]})]
FORMS += [
    merged(MANY, {"watchNamespaces": ["shop", "bar"], "discover": [name]}) for name in ("apps", "services", "pods")
]
"""Forms of a release that have every right among them."""


def _role(name: str) -> ChartRole:
    endings = {"secrets": ChartRole.SECRETS, "-own": ChartRole.OWN, ":tokens": ChartRole.TOKENS}
    return next((role for ending, role in endings.items() if name.endswith(ending)), ChartRole.WATCHED)


def _described() -> set[Verb]:
    return {Verb(row.role, row.group, resource, row.verb) for row in RIGHTS for resource in row.resources}


def test_every_verb_is_described():
    """Each verb of each role that the chart renders has a row, and each row is a verb that some form of it renders."""
    found = {verb._replace(role=_role(verb.role)) for values in FORMS for verb in verbs_of(render({"shared": values}))}
    assert found == _described()


def test_the_values_are_there():
    """A row names values that the chart has."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for name in {name for row in RIGHTS for name in row.values}:
        there: Any = values
        for part in name.split("."):
            assert part in there, name
            there = there[part]


def test_nothing_of_the_cluster():
    """A release that watches its own namespace and verifies no tokens has no right outside of it."""
    objects = render({"shared": MANY})
    assert not of_kind(objects, "ClusterRole")
    assert {each["metadata"]["namespace"] for each in of_kind(objects, "Role")} == {"shop"}
