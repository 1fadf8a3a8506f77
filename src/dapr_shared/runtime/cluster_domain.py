"""The DNS domain of the cluster, which names of Services end with.

Before both roads. `--cluster-domain` goes first, then what the kubelet wrote into the pod's /etc/resolv.conf.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from dapr_shared.contracts.nameresolution import CLUSTER_DOMAIN

if TYPE_CHECKING:
    from dapr_shared.runtime.settings import Settings

RESOLV_CONF: Final = Path("/etc/resolv.conf")
_MOST_BYTES: Final = 64 * 1024


def cluster_domain(settings: Settings) -> str:
    """The domain for names such as `orders.shop.svc.<domain>`. Blocks, for a small file."""
    if settings.cluster_domain:
        return settings.cluster_domain
    return (found_in(_resolver_file()) if settings.in_cluster else "") or CLUSTER_DOMAIN


def found_in(text: str) -> str:
    """`X`, where `<namespace>.svc.X`, `svc.X` and `X` are all searched, as in the pods that the kubelet starts; else empty.

    All three, because a domain of the node that happens to hold `svc` is not the cluster's. Form: resolv.conf(5); of
    several `search` lines the last counts.
    """
    searched: list[str] = []
    for line in text.splitlines():
        word, *names = line.split() or [""]
        if word == "search":
            searched = [name.rstrip(".").lower() for name in names]
    for name in searched:
        namespace, service, domain = (*name.split(".", 2), "", "")[:3]
        if namespace and service == "svc" and domain in searched and f"svc.{domain}" in searched:
            return domain
    return ""


def _resolver_file() -> str:
    try:
        with RESOLV_CONF.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""  # a machine without one has other ways to look names up
