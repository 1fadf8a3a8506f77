"""The way of parts of the status from each instance to the one that writes it: a Lease an instance, with an annotation.

Beside both roads. A Lease, because the role has rights on Leases anyway, they wake nobody, and say when they were renewed. An
instance writes its own rarely: when its part changes, and now and then to say that it is still there. The holder watches
all of them, and passes over one that was not renewed for long. The garbage collector removes the Lease of a pod that is gone.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from dapr_shared.core.clock import Clock, SystemClock
from dapr_shared.kube.errors import Conflict, Forbidden, KubeError, NotFound
from dapr_shared.kube.informer import Informer, InformerState
from dapr_shared.kube.objects import LEASES, JsonObject, version_of
from dapr_shared.kubernetes.status import REFUSED_PAUSE
from dapr_shared.kubernetes.status_parts import decode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dapr_shared.kube.client import KubeClient
    from dapr_shared.kubernetes.status_parts import AppName, AppPart

ANNOTATION: Final = "shared.dapr.io/status-part"
"""Of a Lease: the part of the instance."""
LABEL: Final = "shared.dapr.io/status"
"""Of a Lease: the name of the lease whose holder reads it."""
LOOK: Final = 10.0
"""Seconds between two looks at what an instance has to tell, and between two writes of it at least."""
BYTES_PER_SECOND: Final = 2048
"""A long part is written the less often."""
RENEWAL: Final = 120.0
"""Seconds after which a part that stays is written again."""
STALE: Final = 300.0
"""Seconds without a renewal after which a part counts no more: two renewals may get lost."""
_SPREAD: Final = (0.8, 1.2)
_WITHDRAWAL: Final = 2.0
"""Seconds that taking a part back at the end may take."""
_LONGEST_NAME: Final = 200
_MOST_SHARED: Final = 20_000
"""Different parts of apps that are remembered to be shared."""


class Place(NamedTuple):
    """Whose part it is, and for whom."""

    lease: str
    """The lease whose holder writes the status."""
    namespace: str
    """Of both leases, and of the pod."""
    pod: str
    pod_uid: str = ""
    """Empty: it is not known, and nobody removes the Lease later."""
    release: str = ""

    @property
    def name(self) -> str:
        """Of the Lease of this instance."""
        return f"{self.lease}.{self.pod[:_LONGEST_NAME]}"

    @property
    def selector(self) -> str:
        """Chooses the Leases of all instances with one holder."""
        return f"{LABEL}={self.lease}"

    def metadata(self) -> JsonObject:
        """Of a Lease that is made now."""
        labels = {
            LABEL: self.lease,
            "app.kubernetes.io/component": "app-status",
            **({"shared.dapr.io/instance": self.release} if self.release else {}),
        }
        owner = {"apiVersion": "v1", "kind": "Pod", "name": self.pod, "uid": self.pod_uid}
        owners = {"ownerReferences": [owner]} if self.pod_uid else {}
        return {"name": self.name, "namespace": self.namespace, "labels": labels, **owners}


class PartWriter:
    """Writes what this instance knows to its own Lease for as long as it runs; takes it back at the end."""

    def __init__(
        self,
        client: KubeClient,
        place: Place,
        text: Callable[[], Awaitable[str]],
        *,
        failed: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        """`text`: the part now, empty where there is nothing to tell.

        `failed` is told why it could not be written, once, and nothing (an empty text) when it can again.
        """
        self._client = client
        self._place = place
        self._text = text
        self._failed = failed
        self._clock = clock or SystemClock()
        self._lease: JsonObject | None = None
        """As the server gave it last."""
        self._written: str = ""
        self._written_at = float("-inf")
        self._problem = ""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        try:
            while True:
                pause = LOOK
                try:
                    await self.look()
                    self._tell("")
                except Forbidden as error:
                    self._tell(error.message)
                    pause = REFUSED_PAUSE
                except KubeError as error:
                    self._tell(error.message)
                    pause = max(LOOK, error.retry_after)
                except Exception as error:  # noqa: BLE001 - telling of apps must not end serving them
                    self._tell(f"a defect: {type(error).__name__}: {error}")
                await asyncio.sleep(pause * random.uniform(*_SPREAD))  # noqa: S311 - spreads load
        finally:
            await self._withdraw()

    def _tell(self, problem: str) -> None:
        before, self._problem = self._problem, problem
        if problem != before:
            self._failed(problem)

    async def look(self) -> None:
        """Write the part where it differs from what was written, or has to be renewed. Raises `KubeError`."""
        text = await self._text()
        passed = self._clock.monotonic() - self._written_at
        if text == self._written:
            if not text or passed < RENEWAL:
                return
        elif passed < max(LOOK * _SPREAD[0], len(self._written) / BYTES_PER_SECOND):
            return
        try:
            await self._write(text)
        except (Conflict, NotFound):  # somebody removed it, or wrote to it: once more as it is now
            self._lease = None
            await self._write(text)
        self._written, self._written_at = text, self._clock.monotonic()

    async def _write(self, text: str) -> None:
        place = self._place
        if self._lease is None:
            try:
                self._lease = await self._client.get(LEASES, place.name, place.namespace)
            except NotFound:
                fresh = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": place.metadata()}
                self._lease = await self._client.create(LEASES, self._saying(fresh, text), place.namespace)
                return
        lease = self._saying(self._lease, text)
        self._lease = await self._client.replace(LEASES, place.name, lease, place.namespace)

    def _saying(self, lease: JsonObject, text: str) -> JsonObject:
        metadata = _part(lease, "metadata")
        annotations = {**_part(metadata, "annotations"), ANNOTATION: text}
        labels = {**_part(metadata, "labels"), **self._place.metadata()["labels"]}
        spec = {
            **_part(lease, "spec"),
            "holderIdentity": self._place.pod if text else "",
            "leaseDurationSeconds": int(STALE),
            "renewTime": self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        return {**lease, "metadata": {**metadata, "annotations": annotations, "labels": labels}, "spec": spec}

    async def _withdraw(self) -> None:
        """What fails here mends itself when the part is stale, or the pod gone."""
        if self._written:
            with suppress(KubeError, TimeoutError):
                async with asyncio.timeout(_WITHDRAWAL):
                    await self._write("")


class _Known(NamedTuple):
    version: str
    renewed: str
    seen_at: float
    """When its renewal was seen, by our clock."""
    pod: str
    apps: Mapping[AppName, AppPart]


_NOTHING: Final = _Known("", "", 0.0, "", {})


class PartReader:
    """Knows the parts of the other instances for as long as this one is the holder and it runs."""

    def __init__(
        self,
        client: KubeClient,
        place: Place,
        *,
        known: Callable[[], None],
        failed: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        """`known` is called when `settled` begins.

        `failed` is told why parts may not be read, once, and nothing (an empty text) when they may again.
        """
        self._client = client
        self._place = place
        self._told_known = known
        self._failed = failed
        self._clock = clock or SystemClock()
        self._held = False
        self._turned = asyncio.Event()
        self._news = asyncio.Event()
        self._known: dict[str, _Known] = {}
        self._shared: dict[AppPart, AppPart] = {}
        """Equal parts of apps, which many instances have, are one object."""
        self._by_app: dict[AppName, dict[AppPart, dict[str, None]]] = {}
        """What is known of an App, each different thing with the pods that say so."""
        self._refused = False
        self.settled = False
        """Whether the parts of others are known, or cannot be read: what is written before that would leave them out."""

    def hold(self, *, held: bool) -> None:
        """This instance begins or ends to be the holder."""
        self._held = held
        self._turned.set()

    async def run(self) -> None:
        """Watch while this instance is the holder, until cancelled. Of N instances one watches."""
        while True:
            await self._until(held=True)
            informer = Informer(
                self._client,
                LEASES,
                self._place.namespace,
                label_selector=self._place.selector,
                changed=self._news.set,
                told=self._hear,
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    following = [
                        tasks.create_task(informer.run(), name="following parts of the status of apps"),
                        tasks.create_task(self._read_on(informer), name="reading parts of the status of apps"),
                    ]
                    await self._until(held=False)
                    for task in following:
                        task.cancel()
            finally:
                self.settled = False
                self._known.clear()
                self._shared.clear()
                self._by_app.clear()

    async def _until(self, *, held: bool) -> None:
        while self._held != held:
            self._turned.clear()
            await self._turned.wait()

    def _hear(self, state: InformerState) -> None:
        if state.refused != self._refused:
            self._refused = state.refused
            self._failed(state.problem if state.refused else "")
        self._news.set()

    async def _read_on(self, informer: Informer) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if len(self._shared) > _MOST_SHARED:
                self._shared.clear()
            objects = {name: lease for (_, name), lease in informer.objects.items() if name != self._place.name}
            for name in self._known.keys() - objects.keys():
                self._put(self._known.pop(name), _NOTHING)
            for name, lease in objects.items():
                before, version = self._known.get(name, _NOTHING), version_of(lease)
                if before.version != version:
                    self._known[name] = self._read(lease, version, before)
                    self._put(before, self._known[name])
                    await asyncio.sleep(0)  # each may take milliseconds, in which requests would wait
            if not self.settled:
                self.settled = True
                self._told_known()

    def _read(self, lease: JsonObject, version: str, before: _Known) -> _Known:
        spec = _part(lease, "spec")
        renewed = str(spec.get("renewTime") or "")
        now = self._clock.monotonic()
        seen_at = before.seen_at if renewed == before.renewed else now
        if before is _NOTHING:
            seen_at = now - self._age(renewed)
        annotations = _part(_part(lease, "metadata"), "annotations")
        apps: Mapping[AppName, AppPart] = {}
        with suppress(ValueError):  # nobody but an instance writes it; what is spoilt tells nothing
            apps = decode(str(annotations.get(ANNOTATION) or "{}"), self._shared)
        return _Known(version, renewed, seen_at, str(spec.get("holderIdentity") or ""), apps)

    def _age(self, renewed: str) -> float:
        """Seconds since a renewal that was not seen to happen. A clock that is wrong counts until the next renewal."""
        try:
            then = datetime.fromisoformat(renewed)
        except ValueError:
            return STALE
        return max(0.0, (self._clock.now() - then.astimezone(UTC)).total_seconds())

    def _put(self, before: _Known, after: _Known) -> None:
        """Let what an instance says now stand in place of what it said before."""
        for app, part in before.apps.items():
            if after.apps.get(app) != part or after.pod != before.pod:
                saying = self._by_app[app]
                saying[part].pop(before.pod, None)
                if not saying[part]:
                    del saying[part]
                if not saying:
                    del self._by_app[app]
        for app, part in after.apps.items():
            if before.apps.get(app) != part or after.pod != before.pod:
                self._by_app.setdefault(app, {}).setdefault(part, {})[after.pod] = None

    def refresh(self) -> None:
        """Drop what was not renewed for long."""
        oldest = self._clock.monotonic() - STALE
        for name, known in self._known.items():
            if known.seen_at <= oldest and known.apps:
                self._known[name] = known._replace(apps={})
                self._put(known, self._known[name])

    def of(self, app: AppName) -> list[tuple[str, AppPart]]:
        """What other instances know of an App: each different thing once, with one of the pods that say so."""
        return [(next(iter(pods)), part) for part, pods in self._by_app.get(app, {}).items()]


def _part(data: JsonObject, name: str) -> JsonObject:
    """What stands there; empty where it is missing."""
    found: JsonObject | None = data.get(name)
    return found or {}
