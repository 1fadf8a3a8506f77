"""Name resolvers: which address an app id has, and what the Configuration may say (reference components §10)."""

from __future__ import annotations

import pytest

from dapr_shared.components.nameresolution.table import NameResolutionError, make_resolver
from dapr_shared.core.ids import AppRef

ORDERS = AppRef("orders", "shop")


def target(port: int = 50002, **spec) -> str:
    """What the resolver of this `spec.nameResolution` says of the app."""
    made = make_resolver(spec, port=port)
    assert made is not None
    return made.target(ORDERS)


@pytest.mark.parametrize("component", ["kubernetes", "Kubernetes", "nameresolution.kubernetes"])
def test_kubernetes(component):
    """An app is found at its Service, as Dapr's operator and the chart name it."""
    assert target(component=component, version="v1") == "orders-dapr.shop.svc.cluster.local:50002"
    given = {"component": component, "configuration": {"clusterDomain": "example.org"}}
    assert target(port=7, **given) == "orders-dapr.shop.svc.example.org:7"


def test_domain_of_the_cluster():
    """The domain of the instance's cluster counts where the settings name none."""
    own, other = {"configuration": {"clusterDomain": "own"}}, {"configuration": {"clusterDomain": ""}}
    for given, domain in ((None, "their"), (other, "their"), (own, "own")):
        made = make_resolver(given, port=1, default="kubernetes", cluster_domain="their")
        assert made is not None
        assert made.target(ORDERS) == f"orders-dapr.shop.svc.{domain}:1"


def test_template():
    """A template takes the place of the Service's name, with the fields of Dapr's."""
    given = {"component": "kubernetes", "configuration": {"template": "{{.ID}}.{{ .Namespace }}.x:{{.Port}}0"}}
    assert target(**given) == "orders.shop.x:500020"


def test_nameformat():
    """The format has the app id in place of its placeholder."""
    assert target(component="nameformat", configuration={"format": "{appid}.x:1"}) == "orders.x:1"


def test_none_is_wanted():
    """Without a component there is a resolver only where a default is given."""
    assert make_resolver(None, port=1) is None
    assert make_resolver({}, port=1) is None
    made = make_resolver(None, port=1, default="kubernetes")
    assert made is not None
    assert made.target(ORDERS) == "orders-dapr.shop.svc.cluster.local:1"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"component": "mdns"}, "component: mdns is not available in this version; there are kubernetes, nameformat"),
        ({"component": "kubernets"}, "component: kubernets is not a name resolver"),
        ({"component": "kubernetes", "version": "v2"}, "version: expected v1, found 'v2'"),
        ({"component": "nameformat"}, "configuration.format: is required"),
        ({"component": "nameformat", "configuration": {"format": "x:1"}}, "must contain {appid}"),
        ({"component": "kubernetes", "configuration": {"template": "{{if .ID}}x{{end}}"}}, "found {{if .ID}}"),
        ({"component": "kubernetes", "configuration": []}, "configuration: expected names and values"),
        ("kubernetes", "spec.nameResolution: expected names and values"),
    ],
)
def test_what_is_wrong(spec, problem):
    """A Configuration that makes no resolver says which field, and what there is."""
    with pytest.raises(NameResolutionError) as raised:
        make_resolver(spec, port=1)
    assert problem in str(raised.value)
