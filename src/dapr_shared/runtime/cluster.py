"""What an instance asks the API server for beside its resources: whose tokens are sent, and Secrets of resources.

Assembly of cluster mode. It has a connection of its own, so that reading many resources holds up no request.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from dapr_shared.components.kubernetes.secrets import CREDENTIALS, read_secret
from dapr_shared.core.clock import SystemClock
from dapr_shared.core.ids import DEFAULT_NAMESPACE
from dapr_shared.core.rights import advice
from dapr_shared.identity.addresses import AddressIdentity
from dapr_shared.identity.cluster_keys import ClusterKeys
from dapr_shared.identity.review_limit import ReviewLimit
from dapr_shared.identity.service_accounts import ServiceAccounts
from dapr_shared.kube.client import KubeClient
from dapr_shared.kube.errors import KubeConfigError
from dapr_shared.kubernetes.addresses import WatchedNodePods
from dapr_shared.kubernetes.identity import ClusterPods, TokenReviewer, published_keys
from dapr_shared.runtime.settings import ALL_NAMESPACES, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AsyncExitStack

    from dapr_shared.kube.informer import InformerState
    from dapr_shared.observability.events import Events
    from dapr_shared.runtime.settings import Settings

    FindPod = Callable[[str, str], Mapping[str, Any] | None]

_NODE_PODS = "pods of this node"
"""What addresses need."""


class ClusterAccess:
    """The API server, for identity and for Secrets."""

    def __init__(self, settings: Settings, events: Events, client: KubeClient) -> None:
        self._client = client
        self._events = events
        self._watched_pod: FindPod | None = None
        self.service_accounts: ServiceAccounts | None = None
        """`None`: service account tokens prove nothing."""
        self.addresses: AddressIdentity | None = None
        """`None`: addresses prove nothing."""
        namespaces = settings.watch_namespaces or (
            os.environ.get("NAMESPACE") or client.namespace or DEFAULT_NAMESPACE,
        )
        self._namespaces = ("",) if ALL_NAMESPACES in namespaces else namespaces
        self._node_pods: WatchedNodePods | None = None
        self._told: dict[str, str] = {}
        """Why the pods of this node may not be followed, by namespace."""
        if settings.identify_by_address:
            node = os.environ.get("NODE_NAME", "")
            if not node:
                raise SettingsError("--identify-by-address needs the variable NODE_NAME: whose addresses are meant")
            self._node_pods = WatchedNodePods(client, node, self._namespaces, told=self._hear_node_pods)
            self.addresses = AddressIdentity(self._node_pods)
        if settings.service_account_audience:
            self.service_accounts = self._accounts(settings)

    def watch_pods(self, find: FindPod) -> None:
        """Take the metadata of pods, by namespace and name, from what watches them: a pod that goes is known at once."""
        self._watched_pod = find

    async def start(self, stack: AsyncExitStack) -> None:
        """Read the credentials; the API server may be away. Raises `KubeConfigError`."""
        await self._client.start(stack)
        if self.service_accounts is not None:
            await self.service_accounts.start(stack)
        if self._node_pods is not None:
            tasks: set[asyncio.Task[None]] = set()
            stack.push_async_callback(_end, tasks)
            self._node_pods.start(lambda work, name: tasks.add(asyncio.create_task(work, name=name)))

    async def secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """A Secret that a resource of this namespace refers to. Raises `SecretNotFoundError` and `BackendError`.

        None that opens the cluster: who may annotate a Service could have it sent to an address of their choice.
        """
        return await read_secret(self._client, name, namespace, refused=CREDENTIALS)

    def _accounts(self, settings: Settings) -> ServiceAccounts:
        clock = SystemClock()
        audience = settings.service_account_audience
        if settings.service_account_verification == "keys":
            verifier = ClusterKeys(partial(published_keys, self._client), audience, clock)
        else:
            verifier = TokenReviewer(self._client, audience)
        return ServiceAccounts(
            audience=audience,
            watched=lambda namespace: namespace in self._namespaces or "" in self._namespaces,
            verifier=verifier,
            pods=ClusterPods(self._client, self._pod),
            limit=ReviewLimit(clock),
            clock=clock,
            reviewed=self._reviewed,
        )

    def _pod(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        return self._watched_pod(namespace, name) if self._watched_pod is not None else None

    def _hear_node_pods(self, namespace: str, state: InformerState) -> None:
        """Tell what RBAC does not allow, once until it does; until then addresses prove nothing."""
        now = state.problem if state.refused else ""
        before, self._told[namespace] = self._told.get(namespace, ""), now
        if now and now != before:
            self._events.cluster_refused(_NODE_PODS, namespace, now, known=False)
        elif before and not now:
            self._events.cluster_followed(_NODE_PODS, namespace)

    def _reviewed(self, outcome: str, problem: str) -> None:
        if problem:
            self._events.token_review_failed(problem)
        else:
            self._events.metrics.token_reviews.child(outcome).inc()


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def cluster_access(settings: Settings, events: Events) -> ClusterAccess:
    """The way to the API server in cluster mode. Raises `SettingsError` where there is none. Blocks for small files."""
    try:
        return ClusterAccess(settings, events, KubeClient.from_environment(os.environ, advise=advice))
    except KubeConfigError as error:
        raise SettingsError(f"--mode=kubernetes: {error}") from error
