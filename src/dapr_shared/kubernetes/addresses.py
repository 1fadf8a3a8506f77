"""The pods on this node and their addresses, for `--identify-by-address`.

Beside the request road, step 2: `identity/addresses.py` decides what an address is worth.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from dapr_shared.identity.account_apps import ServiceAccount
from dapr_shared.identity.addresses import PodAtAddress, address_of
from dapr_shared.identity.service_accounts import NotVerifiableError
from dapr_shared.kube.informer import Informer
from dapr_shared.kube.objects import PODS
from dapr_shared.kubernetes.identity import pod_fact

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from dapr_shared.kube.client import KubeClient
    from dapr_shared.kube.informer import InformerState

    JsonObject = Mapping[str, Any]


class WatchedNodePods:
    """Follows the pods of one node in the watched namespaces, whole: their addresses are in their status."""

    def __init__(
        self, client: KubeClient, node: str, namespaces: Iterable[str], *, told: Callable[[str, InformerState], None]
    ) -> None:
        """`namespaces`: the empty one means all. `told` hears of each how following it goes."""
        node_only = f"spec.nodeName={node}"
        self._informers = [
            Informer(client, PODS, name, field_selector=node_only, changed=self._forget, told=partial(told, name))
            for name in namespaces
        ]
        self._index: dict[str, list[PodAtAddress]] | None = None

    def start(self, background: Callable[[Coroutine[None, None, None], str], None]) -> None:
        """Begin to follow; `background` runs work under a name."""
        for informer in self._informers:
            background(informer.run(), f"pods of this node in {informer.namespace or 'all namespaces'}")

    def at(self, address: str) -> Sequence[PodAtAddress]:
        """See `NodePods`."""
        for informer in self._informers:
            if not informer.state.synced or informer.state.problem:
                raise NotVerifiableError(informer.state.problem or "the pods of this node are not known yet")
        if self._index is None:
            self._index = {}
            for informer in self._informers:
                for pod in informer.objects.values():
                    self._add(self._index, pod)
        return self._index.get(address, ())

    def _add(self, index: dict[str, list[PodAtAddress]], pod: JsonObject) -> None:
        """Only what runs: a pod that has ended keeps its address on paper. One of the host's network has none of its own."""
        spec: JsonObject = pod.get("spec") or {}
        status: JsonObject = pod.get("status") or {}
        started = _seconds(status.get("startTime"))
        if spec.get("hostNetwork") or status.get("phase") != "Running" or started is None:
            return
        account = ServiceAccount(pod["metadata"]["namespace"], str(spec.get("serviceAccountName") or "default"))
        given: Sequence[Mapping[str, str]] = status.get("podIPs") or [{"ip": status.get("podIP") or ""}]
        for address in {address_of(each.get("ip", "")) for each in given} - {""}:
            index.setdefault(address, []).append(PodAtAddress(account, pod_fact(pod), started))

    def _forget(self) -> None:
        self._index = None


def _seconds(time: Any) -> float | None:
    try:
        return datetime.fromisoformat(time).timestamp()
    except (TypeError, ValueError):
        return None
