"""The DNS domain of the cluster: what is given, what the pod's resolv.conf says, and what holds without either."""

from __future__ import annotations

import pytest

from dapr_shared.contracts.nameresolution import CLUSTER_DOMAIN
from dapr_shared.runtime import cluster_domain
from dapr_shared.runtime.settings import Settings, SettingsError, check

POD = "nameserver 10.96.0.10\nsearch shop.svc.Example.org. svc.example.org example.org corp.test\noptions ndots:5\n"
CLUSTER = Settings(mode="kubernetes")


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        (POD, "example.org"),
        ("search corp.test shop.svc.a svc.a a", "a"),
        ("search corp.test shop.svc.a.b svc.a.b a.b", "a.b"),
        ("search shop.svc.a svc.a a\nsearch corp.test", ""),
        ("# search shop.svc.a svc.a a", ""),
        ("search shop.svc.a svc.a", ""),
        ("search shop.svc.a a", ""),
        ("search svc.a a", ""),
        ("search .svc.a svc.a a", ""),
        ("search shop.svc svc", ""),
        ("search shop.svc. svc. .", ""),
        ("search\n\nnameserver 10.0.0.1", ""),
        ("", ""),
    ],
)
def test_what_a_resolver_file_says(text, domain):
    """Only a search list with the namespace's, the Services' and the whole domain names one, wherever they stand."""
    assert cluster_domain.found_in(text) == domain


def test_which_counts(monkeypatch, tmp_path):
    """The flag, then the pod's resolv.conf, then cluster.local; outside of a cluster the machine's own file says nothing."""
    file = tmp_path / "resolv.conf"
    file.write_text(POD, encoding="utf-8")
    monkeypatch.setattr(cluster_domain, "RESOLV_CONF", file)
    assert cluster_domain.cluster_domain(CLUSTER) == "example.org"
    assert cluster_domain.cluster_domain(Settings()) == CLUSTER_DOMAIN
    for settings in (Settings(mode="kubernetes", cluster_domain="mine"), Settings(cluster_domain="mine")):
        assert cluster_domain.cluster_domain(settings) == "mine"
    file.unlink()
    assert cluster_domain.cluster_domain(CLUSTER) == CLUSTER_DOMAIN


@pytest.mark.parametrize("given", [".", "example.org.", ".org", "a..b", "Example.org", "http://a", "a b"])
def test_what_is_no_domain(given):
    """What can be no domain is refused at the start, by the flag's name."""
    with pytest.raises(SettingsError, match=r"--cluster-domain .* is not a DNS domain"):
        check(Settings(cluster_domain=given))
