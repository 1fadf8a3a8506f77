"""Kubernetes Events: what `kubectl describe` shows under an object.

Beside both roads. A repeated Event is one object whose `count` grows, written at most once a minute; an object that is told
of too often is told of less often; what is remembered for that is bounded. Events are for people: none is lost that would
be missed, because everything is also a log line.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from weakref import WeakKeyDictionary

from dapr_shared.kube.errors import Forbidden, KubeError, NotFound
from dapr_shared.kube.objects import EVENTS, JsonObject, ObjectKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.kube.client import KubeClient

EventType = Literal["Normal", "Warning"]

REMEMBERED: Final = 2000
"""Events, and objects, whose repeats are counted at most; the oldest are forgotten, and would begin at one again."""
REPEAT_INTERVAL: Final = 60.0
"""Seconds between two writes of the same Event; repeats in between are counted, and written with the next one."""
BURST: Final = 20
"""New Events of one object at once, as many as this ..."""
REFILL: Final = 300.0
"""... and then one in so many seconds."""
REFUSED_PAUSE: Final = 60.0
"""Seconds until writing is tried again in a namespace where RBAC has refused it; what is told meanwhile waits, up to `QUEUE`
Events in all."""
QUEUE: Final = 500
"""Events that wait to be written at most; more are dropped and counted."""
_MESSAGE: Final = 1024
"""Characters of a message at most; the server's bound."""
_REASON: Final = 128
_SHORT: Final = 200
_DEFAULT_NAMESPACE: Final = "default"


def reference_to(kind: ObjectKind, name: str, namespace: str = "", uid: str = "") -> JsonObject:
    """What an Event is about, where its object is not at hand."""
    return {"apiVersion": kind.api_version, "kind": kind.kind, "name": name, "namespace": namespace, "uid": uid}


class _Event(NamedTuple):
    """One to be written."""

    about: JsonObject
    type: EventType
    reason: str
    message: str


class _Refused(NamedTuple):
    """Why RBAC does not allow a verb in a namespace, and when it is tried again."""

    problem: str
    again_at: float


@dataclass(slots=True)
class _Told:
    """One Event and its repeats."""

    name: str
    count: int
    first: str
    unwritten: int
    """Repeats since the last write."""
    written_at: float


@dataclass(slots=True)
class _Budget:
    """How many new Events an object may still have."""

    left: float
    at: float


class _Repeats:
    """What one client has told, bounded."""

    def __init__(self) -> None:
        self.events: OrderedDict[bytes, _Told] = OrderedDict()
        self.budgets: OrderedDict[bytes, _Budget] = OrderedDict()


_repeats: WeakKeyDictionary[KubeClient, _Repeats] = WeakKeyDictionary()
"""Repeats are counted for each client, whoever tells."""


class EventRecorder:
    """Writes Events as one reporter, named by the client's `agent`. What `tell` is told is written by `run`."""

    def __init__(
        self, client: KubeClient, *, host: str = "", told: Callable[[str], None] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        self.dropped = 0
        """Events that were not written: too many, or refused."""
        self._client = client
        self._host = host
        self._failed = told
        self._clock = clock or _loop_time
        seen = _repeats.setdefault(client, _Repeats())
        self._events, self._budgets = seen.events, seen.budgets
        self._queue: asyncio.Queue[_Event] = asyncio.Queue(QUEUE)
        self._refused: dict[tuple[str, str], _Refused] = {}
        """By verb and namespace."""
        self._waiting: deque[_Event] = deque()
        """What may not be written now."""
        self._failing = False

    def tell(self, about: JsonObject, type: EventType, reason: str, message: str) -> None:  # noqa: A002 - Kubernetes' word
        """Have an Event written soon by `run`; never fails and never waits."""
        try:
            self._queue.put_nowait(_Event(_reference(about), type, reason, message))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Write what is told, until cancelled. What fails is dropped, and told to `told` in words.

        What RBAC does not allow waits instead, which is told once. An empty text tells that all can be written again.
        """
        while True:
            try:
                async with asyncio.timeout(self._patience()):
                    event = await self._queue.get()
            except TimeoutError:
                waiting, self._waiting = self._waiting, deque()
                for each in waiting:
                    await self._write(each)
            else:
                await self._write(event)

    def _patience(self) -> float | None:
        """Seconds until what waits is tried again."""
        if not self._waiting:
            return None
        now = self._clock()
        refused = (self._refused.get(("create", _namespace(each.about))) for each in self._waiting)
        return max(min(each.again_at if each else now for each in refused) - now, 0.0)

    async def _write(self, event: _Event) -> None:
        namespace = _namespace(event.about)
        refused = self._refused.get(("create", namespace))
        if refused is not None and self._clock() < refused.again_at:
            self._keep(event)
            return
        try:
            await self.record(*event)
        except Forbidden as error:
            if error.missing == "create":
                self._keep(event)
            elif not error.missing:
                self.dropped += 1
            if not error.missing or self._refuse(error, namespace):
                self._tell(error.message)
        except KubeError as error:
            self.dropped += 1
            self._tell(error.message)
            if isinstance(error, NotFound):
                self._works("create", namespace)  # or never will: the namespace is gone
            if error.retry_after or error.status == 0:
                await asyncio.sleep(max(error.retry_after, 1.0))
        except Exception as error:  # noqa: BLE001 - an Event that cannot be made must not end the others
            self.dropped += 1
            self._tell(f"a defect: {type(error).__name__}")

    def _refuse(self, error: Forbidden, namespace: str) -> bool:
        """Remember what is missing; whether that is new."""
        known = self._refused.pop((error.missing, namespace), None)
        self._refused[error.missing, namespace] = _Refused(error.message, self._clock() + REFUSED_PAUSE)
        if len(self._refused) > REMEMBERED:
            del self._refused[next(iter(self._refused))]
        return known is None or known.problem != error.message

    def _keep(self, event: _Event) -> None:
        self._waiting.append(event)
        if len(self._waiting) > QUEUE:
            self._waiting.popleft()
            self.dropped += 1

    def _works(self, verb: str, namespace: str) -> None:
        self._refused.pop((verb, namespace), None)
        if self._failing and not self._refused:
            self._tell("")

    def _tell(self, problem: str) -> None:
        self._failing = bool(problem)
        if self._failed is not None:
            self._failed(problem)

    async def record(self, about: JsonObject, type: EventType, reason: str, message: str) -> None:  # noqa: A002
        """Write an Event about an object or a reference to one, or count its repeat. Raises `KubeError`."""
        reference = _reference(about)
        reason, message = reason[:_REASON], _cut(message)
        key = _digest(reference, type, reason, message)
        now = self._clock()
        known = self._events.get(key)
        if known is not None:
            self._events.move_to_end(key)
            known.unwritten += 1
            if now - known.written_at < REPEAT_INTERVAL or await self._repeat(known, reference, now):
                return
        elif not self._affordable(reference, now):
            self.dropped += 1
            return
        await self._first(key, reference, type, reason, message)

    async def _repeat(self, known: _Told, reference: JsonObject, now: float) -> bool:
        """Write the count; false where the server has forgotten the Event, which it does after an hour."""
        known.written_at = now
        count = known.count + known.unwritten
        body = {"count": count, "lastTimestamp": _time()}
        try:
            await self._client.patch(EVENTS, known.name, body, _namespace(reference))
        except NotFound:
            return False
        self._works("patch", _namespace(reference))
        known.unwritten -= count - known.count
        known.count = count
        return True

    async def _first(self, key: bytes, reference: JsonObject, kind: EventType, reason: str, message: str) -> None:
        now = _time()
        name = f"{reference['name'][:_SHORT].rstrip('-.')}.{secrets.token_hex(8)}"
        event = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": _namespace(reference)},
            "involvedObject": {field: value for field, value in reference.items() if value},
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": self._client.agent, **({"host": self._host} if self._host else {})},
            "reportingComponent": self._client.agent,
            "reportingInstance": self._host[:_REASON],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        # Remembered first: the same Event that comes while this is under way is a repeat.
        told = self._events[key] = _Told(name, 1, now, 0, self._clock())
        if len(self._events) > REMEMBERED:
            self._events.popitem(last=False)
        try:
            await self._client.create(EVENTS, event, _namespace(reference))
        except KubeError:
            if self._events.get(key) is told:
                del self._events[key]
            raise
        self._works("create", _namespace(reference))

    def _affordable(self, reference: JsonObject, now: float) -> bool:
        key = _digest(reference)
        budget = self._budgets.setdefault(key, _Budget(BURST, now))
        self._budgets.move_to_end(key)
        if len(self._budgets) > REMEMBERED:
            self._budgets.popitem(last=False)
        budget.left = min(budget.left + (now - budget.at) / REFILL, float(BURST))
        budget.at = now
        if budget.left < 1:
            return False
        budget.left -= 1
        return True


async def record_event(client: KubeClient, about: JsonObject, type: EventType, reason: str, message: str) -> None:  # noqa: A002
    """Write an Event about an object, or a reference to one (`reference_to`), or count its repeat. Raises `KubeError`.

    `type` is `Normal` or `Warning`, `reason` one word in CamelCase, `message` a sentence for people without secrets.
    """
    await EventRecorder(client).record(about, type, reason, message)


def _reference(about: JsonObject) -> JsonObject:
    """A reference as it is, that of an object made from its metadata."""
    metadata: JsonObject | None = about.get("metadata")
    if metadata is None:
        return {"namespace": "", "uid": "", **about}
    return {
        "apiVersion": about.get("apiVersion", ""),
        "kind": about.get("kind", ""),
        "name": metadata["name"],
        "namespace": metadata.get("namespace", ""),
        "uid": metadata.get("uid", ""),
        "resourceVersion": metadata.get("resourceVersion", ""),
    }


def _namespace(reference: JsonObject) -> str:
    return reference["namespace"] or _DEFAULT_NAMESPACE


def _digest(reference: JsonObject, *more: str) -> bytes:
    about = (reference.get(field, "") for field in ("kind", "namespace", "name", "uid"))
    return hashlib.blake2b("\0".join((*about, *more)).encode(), digest_size=16).digest()


def _cut(message: str) -> str:
    return message if len(message) <= _MESSAGE else f"{message[: _MESSAGE - 1]}…"


def _time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
