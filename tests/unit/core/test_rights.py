"""Which role of the chart gives what the API server is asked for."""

from __future__ import annotations

from dapr_shared.core.rights import RIGHTS, advice


def test_advice():
    """A right names the role of the chart and the values that give it; one that no role has says so."""
    assert advice("patch", "shared.dapr.io", "apps/status") == (
        "the chart gives it by its role of each watched namespace, see shared.watchNamespaces and shared.discover"
    )
    assert advice("get", "", "/openid/v1/jwks").startswith("the chart gives it by its role of the cluster, for tokens")
    assert advice("list", "", "secrets") == "the chart gives no such right: it needs a role of your own"


def test_each_right_once():
    """No verb of a role is described twice."""
    described = [(row.role, row.group, name, row.verb) for row in RIGHTS for name in row.resources]
    assert len(described) == len(set(described))
