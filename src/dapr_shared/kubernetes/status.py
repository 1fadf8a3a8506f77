"""What became of an App, told at its object: `status`, and Events where something turns.

Beside both roads. Of many instances the holder of a lease alone writes. What it is given is what all instances know
(`status_parts.py`). What is written is compared with what stands there, so that a new holder repeats nothing; it is bounded
and rate-limited, and the informer of Apps passes over it (`ignore_status`), so that it wakes nobody.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dapr_shared.core.clock import Clock, SystemClock
from dapr_shared.kube.errors import Conflict, Forbidden, KubeError, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from dapr_shared.kube.client import KubeClient
    from dapr_shared.kube.events import EventType
    from dapr_shared.kube.objects import JsonObject, ObjectKind

LOOK: Final = 5.0
"""Seconds between two looks at what differs, where nothing asks for one sooner."""
QUIET: Final = 1.0
"""Seconds between two looks at least."""
APP_INTERVAL: Final = 10.0
"""Seconds between two writes of one App at least: an app that comes and goes all the time costs one write in so long."""
WRITES_PER_SECOND: Final = 10.0
"""Of all Apps together."""
REFUSED_PAUSE: Final = 60.0
"""Seconds until writing is tried again that RBAC did not allow."""
UNSEEN: Final = 30.0
"""Seconds for which what was written counts more than what the API server has told of it since."""
MOST_SUBSCRIPTIONS: Final = 100
"""Listed in a status; all are counted."""
AT_ONCE: Final = 50
"""Apps that are looked at without a pause."""
_LONGEST: Final = 1024
"""Characters of a text."""


class SubscriptionReport(NamedTuple):
    """One subscription of an app."""

    pubsub: str
    topic: str
    state: str
    """`active`, `paused` or `failed`."""
    problem: str = ""
    """Why it has failed."""
    declared: bool = False
    """Whether a resource says it, so that all instances know of it."""


class AppReport(NamedTuple):
    """What is known of the app of one App."""

    problem: str = ""
    """Why the App is not in force as it is written; empty: it is."""
    ready: bool = False
    """Whether the app can be called now; true for one that only calls."""
    reason: str = "Unknown"
    """Why it is ready or not, as one word in CamelCase."""
    message: str = ""
    """The same as a sentence."""
    address: str = ""
    """Where it is called, as a URL; empty: it only calls."""
    subscriptions: tuple[SubscriptionReport, ...] = ()
    more: int = 0
    """Subscriptions beside these."""
    elsewhere: str = ""
    """What is wrong at another instance, and at which."""

    @property
    def last_error(self) -> str:
        """What is wrong now, here before elsewhere. An app that is away is not wrong."""
        failed = (f"{each.pubsub}/{each.topic}: {each.problem}" for each in self.subscriptions if each.problem)
        return self.problem or next(failed, self.elsewhere)


class Turn(NamedTuple):
    """What an Event tells."""

    type: EventType
    reason: str
    message: str


def status_of(report: AppReport, app: JsonObject, now: str) -> JsonObject:
    """The `status` that says this of an App. `now`: RFC 3339; a condition that stays keeps its time."""
    before = _conditions(app)
    generation = app["metadata"].get("generation", 0)
    accepted = ("False", "Refused", report.problem) if report.problem else ("True", "Accepted", "")
    ready = ("True" if report.ready else "False", report.reason, report.message)
    conditions: list[JsonObject] = []
    for name, (value, reason, message) in (("Accepted", accepted), ("Ready", ready)):
        known = before.get(name, {})
        since = known.get("lastTransitionTime") if known.get("status") == value else None
        conditions.append(
            {
                "type": name,
                "status": value,
                "reason": reason,
                "message": _cut(message),
                "lastTransitionTime": since or now,
                "observedGeneration": generation,
            }
        )
    shown = report.subscriptions[:MOST_SUBSCRIPTIONS]
    spec: JsonObject = app.get("spec") or {}
    return {
        "appId": str(spec.get("appId") or app["metadata"]["name"]),
        "ready": report.ready,
        "lastError": _cut(report.last_error),
        "address": report.address,
        "subscriptionCount": len(report.subscriptions) + report.more,
        "subscriptions": [{"pubsub": each.pubsub, "topic": each.topic, "state": each.state} for each in shown],
        "observedGeneration": generation,
        "conditions": conditions,
    }


def turns(app: JsonObject, status: JsonObject, elsewhere: str = "") -> list[Turn]:
    """What turns for an App when this status replaces the one that stands there; `elsewhere`: see `AppReport`."""
    before, found = _conditions(app), list[Turn]()
    after = {condition["type"]: condition for condition in status["conditions"]}
    accepted, was = after["Accepted"], before.get("Accepted", {})
    if (accepted["status"], accepted["message"]) != (was.get("status"), was.get("message")):
        if accepted["status"] == "True":
            found.append(Turn("Normal", "Accepted", "the App is in force"))
        else:
            found.append(Turn("Warning", "Refused", accepted["message"]))
    ready, was = after["Ready"], before.get("Ready", {})
    if ready["status"] != was.get("status") and (was or ready["status"] == "True"):
        found.append(Turn("Normal", "Ready" if ready["status"] == "True" else "NotReady", ready["message"]))
    error = status["lastError"]
    if error and error != _status(app).get("lastError") and accepted["status"] == "True":
        found.append(Turn("Warning", "FailedElsewhere" if error == _cut(elsewhere) else "SubscriptionFailed", error))
    return found


class _Written(NamedTuple):
    at: float
    status: JsonObject


class StatusWriter:
    """Writes the status of Apps for as long as it runs and `holder` says that it is this instance's to do."""

    def __init__(
        self,
        client: KubeClient,
        kind: ObjectKind,
        apps: Callable[[], Iterable[JsonObject]],
        report: Callable[[JsonObject], Awaitable[AppReport | None]],
        *,
        holder: Callable[[], bool],
        turned: Callable[[JsonObject, Turn], None],
        failed: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        """`apps`: the objects as they are at the API server; `report`: what is known of one, `None`: nothing yet.

        `turned` is told what an Event should say, `failed` why a status could not be written, once, and nothing (an
        empty text) when it can again.
        """
        self._client = client
        self._kind = kind
        self._apps = apps
        self._report = report
        self._holder = holder
        self._turned = turned
        self._failed = failed
        self._clock = clock or SystemClock()
        self._written: dict[str, _Written] = {}
        """By `uid`: what was written last."""
        self._wanted = asyncio.Event()
        self._problem = ""

    def kick(self) -> None:
        """Look soon: something has changed."""
        self._wanted.set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        pause = QUIET
        while True:
            await asyncio.sleep(pause)
            pause = QUIET
            try:
                async with asyncio.timeout(LOOK):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
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
                pause = LOOK

    def _tell(self, problem: str) -> None:
        before, self._problem = self._problem, problem
        if problem != before:
            self._failed(problem)

    async def look(self) -> None:
        """Write what differs, where this instance is the holder. Raises `KubeError`.

        Where a namespace refuses (RBAC) those of the others are written first.
        """
        if not self._holder():
            self._written.clear()  # the next time it holds, what stands there is what counts
            return
        apps = list(self._apps())
        known = {_uid(app) for app in apps}
        self._written = {uid: written for uid, written in self._written.items() if uid in known}
        refused: dict[str, Forbidden] = {}
        for number, app in enumerate(apps):
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)  # a thousand apps are ten milliseconds, in which requests would wait
            namespace = app["metadata"].get("namespace", "")
            if namespace in refused:
                continue
            report = await self._report(app)
            try:
                if report is not None and await self._bring(app, report):
                    await asyncio.sleep(1 / WRITES_PER_SECOND)
            except Forbidden as error:
                refused[namespace] = error
            if not self._holder():
                return
        if refused:
            raise next(iter(refused.values()))

    async def _bring(self, app: JsonObject, report: AppReport) -> bool:
        """Write the status of one App, where it differs; whether the API server was asked."""
        now = self._clock.monotonic()
        written = self._written.get(_uid(app))
        if written is not None and now - written.at < UNSEEN:
            app = {**app, "status": written.status}
        status = status_of(report, app, self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
        if all(_status(app).get(name) == value for name, value in status.items()):
            return False
        if written is not None and now - written.at < APP_INTERVAL:
            return False  # the next look finds it again
        metadata = app["metadata"]
        body = {"metadata": {"uid": metadata.get("uid")}, "status": status}
        try:
            await self._client.patch(
                self._kind, metadata["name"], body, metadata.get("namespace", ""), subresource="status"
            )
        except (NotFound, Conflict):
            return True  # it is gone, or another one by now: the informer will say so
        for turn in turns(app, status, report.elsewhere):
            self._turned(app, turn)
        self._written[_uid(app)] = _Written(now, status)
        return True


def _status(app: JsonObject) -> JsonObject:
    status: Any = app.get("status")
    return status if isinstance(status, dict) else {}  # pyright: ignore[reportUnknownVariableType] - as the server has it


def _conditions(app: JsonObject) -> dict[str, JsonObject]:
    found: Iterable[JsonObject] = _status(app).get("conditions") or ()
    return {str(condition.get("type")): condition for condition in found}


def _uid(app: JsonObject) -> str:
    return str(app["metadata"].get("uid"))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
