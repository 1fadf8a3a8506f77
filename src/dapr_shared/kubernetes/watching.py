"""What is followed at the API server: kinds of resources, annotated Services and Pods, each in each namespace.

Before both roads. Services and Pods are followed by their metadata alone; a pod that describes an app is read whole when it
changes. While the API server is away, what is known stays.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, NamedTuple

from dapr_shared.kube.errors import Forbidden, KubeError, NotFound
from dapr_shared.kube.informer import SPREAD, Informer, InformerState
from dapr_shared.kube.objects import PODS, SERVICES, ObjectKey, ObjectKind, version_of
from dapr_shared.kubernetes.discovery import Object, describes_app

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from dapr_shared.kube.client import KubeClient

_AT_ONCE = 16
"""Pods that are read at a time."""
_AGAIN = 5.0
"""Seconds until a pod is read again that could not be."""
REFUSED_AGAIN = 30.0
"""The same where RBAC does not allow it."""


class Followed(NamedTuple):
    """One kind in one place, and how following it goes."""

    kind: ObjectKind
    namespace: str
    """Empty: all namespaces."""
    state: InformerState
    whole: bool = False
    """It is about reading single objects of the kind whole, not about following it."""

    @property
    def settled(self) -> bool:
        """Whether waiting for it makes no sense any more: it is known, or may not be read at all."""
        return self.state.synced or self.state.refused


class ClusterWatch:
    """Keeps what is followed. All methods belong to one event loop."""

    def __init__(
        self,
        client: KubeClient,
        kinds: Sequence[ObjectKind],
        namespaces: Sequence[str],
        *,
        changed: Callable[[], None],
        told: Callable[[Followed], None],
    ) -> None:
        """`kinds`: with `SERVICES` and `PODS` for what is discovered. `changed` and `told` should only make a note."""
        self._client = client
        self._changed = changed
        self._told = told
        self._informers: dict[tuple[ObjectKind, str], Informer] = {}
        self._pods: dict[ObjectKey, Object] = {}
        self._pod_problems: dict[str, str] = {}
        """Why pods cannot be read whole, by namespace."""
        self._again: asyncio.TimerHandle | None = None
        for kind in kinds:
            metadata = kind in (SERVICES, PODS)
            for namespace in namespaces:
                self._informers[kind, namespace] = Informer(
                    client,
                    kind,
                    namespace,
                    metadata_only=metadata,
                    wanted=describes_app if metadata else None,
                    ignore_status=not metadata,
                    changed=changed,
                    told=self._teller(kind, namespace),
                )

    def start(self, background: Callable[[Coroutine[None, None, None], str], None]) -> None:
        """Begin to follow; `background` runs work under a name."""
        for (kind, namespace), informer in self._informers.items():
            background(informer.run(), f"following {kind.resource} in {namespace or 'all namespaces'}")

    def followed(self) -> list[Followed]:
        """How each goes."""
        return [Followed(kind, namespace, each.state) for (kind, namespace), each in self._informers.items()]

    def objects(self, *kinds: ObjectKind) -> list[tuple[ObjectKind, Object]]:
        """All objects of these kinds, in the order of kind, namespace and name."""
        return [
            (kind, informer.objects[key])
            for wanted in kinds
            for (kind, _), informer in self._informers.items()
            if kind is wanted
            for key in sorted(informer.objects)
        ]

    def object(self, kind: ObjectKind, namespace: str, name: str) -> Object | None:
        """One object, as the watch has it now: of a Service or a pod its metadata, where it describes an app."""
        for (each, _), informer in self._informers.items():
            if each is kind and (found := informer.objects.get(ObjectKey(namespace, name))) is not None:
                return found
        return None

    async def pods(self) -> list[Object]:
        """The pods that describe apps, whole. One that cannot be read now is as it was, and is read again later.

        Where one of a namespace is refused the others are not asked for.
        """
        known = {
            key: item
            for (kind, _), each in self._informers.items()
            if kind is PODS
            for key, item in each.objects.items()
        }
        at_once = asyncio.Semaphore(_AT_ONCE)
        problems: dict[str, str] = {}
        unknown: set[str] = set()

        async def read(key: ObjectKey, item: Object) -> Object | None:
            before = self._pods.get(key)
            if before is not None and version_of(before) == version_of(item) and _uid(before) == _uid(item):
                return before
            async with at_once:
                if key.namespace in problems:
                    return before
                try:
                    return await self._client.get(PODS, key.name, key.namespace)
                except NotFound:
                    return None
                except Forbidden as error:
                    problems[key.namespace] = error.message
                except KubeError:
                    unknown.add(key.namespace)
                return before

        keys = sorted(known)
        found = await asyncio.gather(*(read(key, known[key]) for key in keys))
        self._pods = {key: pod for key, pod in zip(keys, found, strict=True) if pod is not None}
        if unknown or problems:
            self._look_again(_AGAIN if unknown else REFUSED_AGAIN)
        still = {name: text for name, text in self._pod_problems.items() if name in unknown}
        self._tell_of_pods({**still, **problems})
        return list(self._pods.values())

    def _tell_of_pods(self, problems: dict[str, str]) -> None:
        before, self._pod_problems = self._pod_problems, problems
        for namespace in sorted(before.keys() | problems.keys()):
            problem = problems.get(namespace, "")
            if problem != before.get(namespace, ""):
                state = InformerState(synced=True, refused=bool(problem), problem=problem)
                self._told(Followed(PODS, namespace, state, whole=True))

    def _look_again(self, seconds: float) -> None:
        """Have all read again after about so long, or sooner if that was wanted before."""
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds * random.uniform(*SPREAD)  # noqa: S311 - spreads load
        if self._again is not None and loop.time() < self._again.when() <= at:
            return
        if self._again is not None:
            self._again.cancel()
        self._again = loop.call_at(at, self._changed)

    def _teller(self, kind: ObjectKind, namespace: str) -> Callable[[InformerState], None]:
        def told(state: InformerState) -> None:
            self._told(Followed(kind, namespace, state))

        return told


def _uid(item: Object) -> str:
    return str(item["metadata"].get("uid"))
