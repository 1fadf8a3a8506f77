"""All objects of one kind in one namespace, kept as they are at the API server: a list, then a watch.

Beside both roads. While the API server is away what is known stays and is served. A watch goes on from where the last one
ended; only where the server does not remember that far (410) is everything listed again. Whatever fails is tried again
later and later, spread over time, so that many instances do not ask at the same moment.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple

from dapr_shared.kube.errors import Forbidden, Gone, KubeError, NotFound, Unavailable
from dapr_shared.kube.objects import JsonObject, ObjectKey, ObjectKind, key_of, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dapr_shared.kube.client import KubeClient, WatchEvent

PAUSES: Final = (0.5, 30.0)
"""Seconds until the first new try after a failure, and at most; doubled with each."""
SPREAD: Final = (0.5, 1.5)
"""Each pause is multiplied by something between these."""
ABSENT: Final = 30.0
"""Seconds until a kind that is not installed is looked for again."""
REALLY_ABSENT: Final = 3
"""How often in a row a kind that was there must be not found until that is believed: an API server that starts may not know
its custom kinds for a moment."""
FRESH_START: Final = 3
"""How often in a row the server must refuse to go on, for a reason that is not us, until everything is listed again: it may
have been set back to an older state, and know nothing of the version that is asked for."""
SHORT_WATCH: Final = 5.0
"""Seconds: a watch that ends sooner counts as a failure, so that one that always ends at once makes no busy loop."""
_ALSO_SAID: Final = ("labels", "annotations", "deletionTimestamp")
"""Of `metadata`: what is said beside the contents, and does not count as a new generation."""


class InformerState(NamedTuple):
    """How an informer is doing."""

    synced: bool = False
    """It has known everything once. Stays while the API server is away."""
    installed: bool = True
    """False: the API server has no such kind; there are no objects, and it is looked for again every `ABSENT` seconds."""
    problem: str = ""
    """Why what it knows may be old, in words; empty: it is not."""
    refused: bool = False
    """The API server answers, and does not let us see this kind (RBAC)."""


class Informer:
    """Keeps `objects`. All methods and attributes belong to the event loop.

    `changed` is called after each difference, `told` after each change of `state`: both should only make a note. With
    `wanted`, objects for which it answers false are not kept: they take no memory. It is asked at each change. With
    `ignore_status` a change of `status` alone is taken over without a word: who writes a status is not woken by it.
    """

    def __init__(
        self,
        client: KubeClient,
        kind: ObjectKind,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        changed: Callable[[], None],
        told: Callable[[InformerState], None] | None = None,
        wanted: Callable[[JsonObject], bool] | None = None,
        ignore_status: bool = False,
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self.state = InformerState()
        self._objects: dict[ObjectKey, JsonObject] = {}
        self._client = client
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._metadata_only = metadata_only
        self._changed = changed
        self._told = told
        self._wanted = wanted
        self._same = _same_but_for_status if ignore_status else _same
        self._synced = asyncio.Event()
        self._version = ""
        """Where a watch goes on; empty: list first."""
        self._failures = 0
        self._absences = 0
        self._refusals = 0

    @property
    def objects(self) -> Mapping[ObjectKey, JsonObject]:
        """What there is, by (namespace, name). An object is replaced when it changes, never edited."""
        return self._objects

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            pause = await self._step()
            await asyncio.sleep(pause)

    async def wait_synced(self, timeout: float) -> bool:  # noqa: ASYNC109 - waiting for so long is the question
        """Whether it has known everything once within so many seconds; an absent kind is known to have no objects."""
        try:
            async with asyncio.timeout(timeout):
                await self._synced.wait()
        except TimeoutError:
            return False
        return True

    async def _step(self) -> float:
        """List where that is needed, watch until it ends; how many seconds to wait then."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            if not self._version:
                await self._list()
                begun = loop.time()
            await self._watch()
        except Gone:
            self._version = ""
        except NotFound as error:
            return self._not_found(error)
        except KubeError as error:
            # A watch that was of use for a while, or silent because there was nothing to tell, and ends is an event of
            # every day: the next try tells more.
            if not isinstance(error, Unavailable) or loop.time() - begun < SHORT_WATCH:
                self._refusals += error.status not in (0, 401, 403, 429)
                if self._refusals >= FRESH_START:
                    self._version = ""
                self._tell(problem=error.message, refused=isinstance(error, Forbidden))
                return self._pause(error.retry_after)
        except Exception as error:  # noqa: BLE001 - an object nobody foresaw must not end the watch of all others
            self._version = ""
            self._tell(
                problem=f"{self.kind.resource}: what the API server sent cannot be read ({type(error).__name__})"
            )
            return self._pause()
        if loop.time() - begun >= SHORT_WATCH:
            self._failures = 0
        return self._pause()

    def _pause(self, least: float = 0.0) -> float:
        pause = min(PAUSES[0] * 2.0**self._failures, PAUSES[1])
        self._failures = min(self._failures + 1, 10)
        return max(pause, least) * random.uniform(*SPREAD)  # noqa: S311 - spreads load

    def _not_found(self, error: NotFound) -> float:
        self._version = ""
        self._absences += 1
        if self._objects and self._absences < REALLY_ABSENT:
            self._tell(problem=error.message)
            return self._pause()
        self._failures = 0
        self._replace({})
        self._tell(synced=True, installed=False, problem="")
        return ABSENT * random.uniform(*SPREAD)  # noqa: S311 - spreads load

    async def _list(self) -> None:
        found = await self._client.list(
            self.kind,
            self.namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            metadata_only=self._metadata_only,
            wanted=self._wanted,
        )
        self._replace({key_of(item): item for item in found.items})
        self._version = found.resource_version
        self._works()

    def _works(self) -> None:
        self._absences = self._refusals = 0
        self._tell(synced=True, installed=True, problem="")

    def _replace(self, objects: dict[ObjectKey, JsonObject]) -> None:
        before = self._objects
        same = before.keys() == objects.keys() and all(self._same(before[key], item) for key, item in objects.items())
        self._objects = objects
        if not same:
            self._changed()

    async def _watch(self) -> None:
        events = self._client.watch(
            self.kind,
            self.namespace,
            resource_version=self._version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            metadata_only=self._metadata_only,
        )
        async with aclosing(events):
            await anext(events)  # it goes on
            self._works()
            async for event in events:
                self._take(event)
                self._failures = 0

    def _take(self, event: WatchEvent) -> None:
        version = version_of(event.object)
        if event.type != "BOOKMARK":
            key = key_of(event.object)
            before = self._objects.get(key)
            if event.type == "DELETED" or (self._wanted is not None and not self._wanted(event.object)):
                self._objects.pop(key, None)
                if before is not None:
                    self._changed()
            else:
                self._objects[key] = event.object
                if before is None or not self._same(before, event.object):
                    self._changed()
        if version:
            self._version = version

    def _tell(
        self, *, synced: bool | None = None, installed: bool | None = None, problem: str, refused: bool = False
    ) -> None:
        state = InformerState(
            self.state.synced if synced is None else synced,
            self.state.installed if installed is None else installed,
            problem,
            refused,
        )
        if state.synced:
            self._synced.set()
        if state != self.state:
            self.state = state
            if self._told is not None:
                self._told(state)


def _same(one: JsonObject, other: JsonObject) -> bool:
    """Whether it is the same version of the same object."""
    first, second = one["metadata"], other["metadata"]
    return first.get("uid") == second.get("uid") and first.get("resourceVersion") == second.get("resourceVersion")


def _same_but_for_status(one: JsonObject, other: JsonObject) -> bool:
    """Whether both say the same to whoever does not read `status`: the server counts `generation` up with each other change."""
    first, second = one["metadata"], other["metadata"]
    same = all(first.get(field) == second.get(field) for field in ("uid", "generation", *_ALSO_SAID))
    return _same(one, other) or (bool(first.get("generation")) and same)
