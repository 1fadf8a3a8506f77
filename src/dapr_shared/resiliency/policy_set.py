"""Which policy holds for a target: Resiliency resources, Dapr's default names, and the built-in ones.

Step 5 of both roads. A policy set belongs to one calling app, and with it the state of its circuit breakers: what one
app sees fail does not close the way for another.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from dapr_shared.core.clock import Clock, SystemClock
from dapr_shared.resiliency import reading
from dapr_shared.resiliency.breaker import CircuitBreaker
from dapr_shared.resiliency.builtin import BUILT_IN_RETRIES, MINIMUM_RETRIES, PROTECTED
from dapr_shared.resiliency.policy import CircuitBreakerPolicy, Policy, RetryPolicy
from dapr_shared.resiliency.reading import ActorTarget, AppTarget, CompileExpression, ComponentTarget, PolicyNames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dapr_shared.resources.model import Resiliency

APP_BREAKERS = 100
"""Breakers kept for one target app, one for each method."""
ACTOR_BREAKERS = 5000
"""Breakers kept for one actor type, or for all types and all apps that only a default policy is for."""

_V = TypeVar("_V")


class ComponentKind(StrEnum):
    """Kinds of components, as the names of default policies write them."""

    BINDING = "Binding"
    CONFIGURATION = "Configuration"
    LOCK = "Lock"
    PUBSUB = "Pubsub"
    CRYPTO = "Crypto"
    CONVERSATION = "Conversation"
    SECRETSTORE = "Secretstore"
    STATESTORE = "Statestore"


class ResiliencyError(Exception):
    """Resiliency resources that cannot be used: one line for each mistake, with its file, resource and field."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(slots=True)
class _Definitions:
    """Everything that the resources define; a later definition of a name replaces an earlier one."""

    timeouts: dict[str, float] = field(default_factory=dict[str, float])
    retries: dict[str, RetryPolicy] = field(default_factory=lambda: dict(BUILT_IN_RETRIES))
    breakers: dict[str, CircuitBreakerPolicy] = field(default_factory=dict[str, CircuitBreakerPolicy])
    apps: dict[str, AppTarget] = field(default_factory=dict[str, AppTarget])
    actors: dict[str, ActorTarget] = field(default_factory=dict[str, ActorTarget])
    components: dict[str, ComponentTarget] = field(default_factory=dict[str, ComponentTarget])
    users: list[tuple[str, PolicyNames]] = field(default_factory=list[tuple[str, PolicyNames]])
    """Where names of policies are used, with the place: they are looked up when everything is read."""
    warnings: list[str] = field(default_factory=list[str])


class PolicySet:
    """The policies that hold for the calls of one app."""

    def __init__(self, definitions: _Definitions | None = None, clock: Clock | None = None) -> None:
        """Use `from_resource`; without arguments there are only the built-in policies."""
        self._definitions = definitions or _Definitions()
        self._clock = clock or SystemClock()
        self._breakers: dict[tuple[str, str], _Breakers] = {}
        self.warnings = tuple(self._definitions.warnings)
        """What the resources say that has no effect."""

    @classmethod
    def from_resource(
        cls,
        *resources: Resiliency,
        app_id: str | None = None,
        compile_expression: CompileExpression | None = None,
        clock: Clock | None = None,
    ) -> PolicySet:
        """Merge resources, in their order, without those whose scopes leave out `app_id` (`None`: all).

        Raises `ResiliencyError` with every mistake, also for a policy that a target names and nothing defines (daprd
        leaves that part out, or fails at the first call).
        """
        definitions = _Definitions()
        problems: list[str] = []
        for resource in resources:
            if app_id is None or not resource.scopes or app_id in resource.scopes:
                problems.extend(_read(resource, definitions, compile_expression))
        problems.extend(_undefined(definitions))
        if problems:
            raise ResiliencyError(problems)
        return cls(definitions, clock)

    def defines_app(self, app_id: str) -> bool:
        """Whether the app is a target. If not, the built-in retry of service invocation holds."""
        return app_id in self._definitions.apps

    def app(self, app_id: str, method: str = "") -> Policy:
        """For calls of a method of another app. Each method has its own breaker."""
        target = self._definitions.apps.get(app_id)
        name = f"endpoint[{app_id}, {method}]"
        if target is None:
            return self._policy(name, self._default("App"), "default apps", f"{app_id}:{method}", ACTOR_BREAKERS)
        size = target.circuit_breaker_cache_size or APP_BREAKERS
        return self._policy(name, target, f"app {app_id}", method, size)

    def actor_before_lock(self, actor_type: str, actor_id: str) -> Policy:
        """For a call of an actor, before its turn: retry and breaker. The wait for the lock has no timeout."""
        target = self._definitions.actors.get(actor_type)
        name = f"actor[{actor_type}, {actor_id}]"
        if target is None:
            policy = self._policy(name, self._default("Actor"), "default actors", actor_type, ACTOR_BREAKERS)
        else:
            key = actor_type if target.circuit_breaker_scope == "type" else f"{actor_type}-{actor_id}"
            size = target.circuit_breaker_cache_size or ACTOR_BREAKERS
            policy = self._policy(name, target, f"actor {actor_type}", key, size)
        return replace(policy, timeout=0.0)

    def actor_after_lock(self, actor_type: str, actor_id: str) -> Policy:
        """For a call of an actor when it is its turn: the timeout."""
        names = self._definitions.actors.get(actor_type) or self._default("Actor")
        return Policy(f"actor[{actor_type}, {actor_id}]", self._definitions.timeouts.get(names.timeout, 0.0))

    def component_outbound(self, name: str, kind: ComponentKind) -> Policy:
        """For calls of a component: publish, state, secrets, output bindings and so on."""
        target = self._definitions.components.get(name)
        return self._component(f"component[{name}] output", name, target.outbound if target else None, kind, "Outbound")

    def component_inbound(self, name: str, kind: ComponentKind) -> Policy:
        """For what a component delivers to the app: messages, input bindings. Shares the breaker of outbound calls."""
        target = self._definitions.components.get(name)
        return self._component(f"component[{name}] input", name, target.inbound if target else None, kind, "Inbound")

    def built_in(self, name: str) -> Policy:
        """A built-in policy, by its name in `builtin`. Raises `KeyError`."""
        if name not in BUILT_IN_RETRIES:
            raise KeyError(name)
        return Policy(name, retry=self._definitions.retries[name])

    def _component(
        self, label: str, name: str, names: PolicyNames | None, kind: ComponentKind, direction: str
    ) -> Policy:
        if names is None:
            names = self._default(f"{kind}Component{direction}", f"Component{direction}", "Component")
        return self._policy(label, names, "components", name, None)

    def _default(self, *levels: str) -> PolicyNames:
        """The names of the default policies that are defined, the most specific level first."""
        definitions = self._definitions
        return PolicyNames(
            timeout=_first(definitions.timeouts, "Timeout", levels),
            retry=_first(definitions.retries, "Retry", levels),
            circuit_breaker=_first(definitions.breakers, "CircuitBreaker", levels),
        )

    def _policy(self, name: str, names: PolicyNames, group: str, key: str, size: int | None) -> Policy:
        definitions = self._definitions
        breaker: CircuitBreaker | None = None
        settings = definitions.breakers.get(names.circuit_breaker)
        if settings is not None:
            # A component has one breaker for both directions, made by the direction that is used first, as in Dapr.
            cache = self._breakers.setdefault((group, names.circuit_breaker if size else ""), _Breakers(size))
            breaker = cache.get(key, settings, self._clock)
        retry = definitions.retries.get(names.retry)
        return Policy(name, definitions.timeouts.get(names.timeout, 0.0), retry, breaker)


class _Breakers:
    """Breakers by key; the one unused for longest gives way. `size=None`: as many as there are keys."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._by_key: OrderedDict[str, CircuitBreaker] = OrderedDict()

    def get(self, key: str, settings: CircuitBreakerPolicy, clock: Clock) -> CircuitBreaker:
        breaker = self._by_key.get(key)
        if breaker is None:
            breaker = self._by_key[key] = CircuitBreaker(key, settings, clock=clock)
            if self._size is not None and len(self._by_key) > self._size:
                self._by_key.popitem(last=False)
        else:
            self._by_key.move_to_end(key)
        return breaker


def _first(defined: Mapping[str, object], kind: str, levels: tuple[str, ...]) -> str:
    """The most specific `Default<Level><Kind>Policy` that is defined, or an empty text."""
    names = (f"Default{level}{kind}Policy" for level in (*levels, ""))
    return next((name for name in names if name in defined), "")


def _read(resource: Resiliency, into: _Definitions, compile_expression: CompileExpression | None) -> list[str]:
    """Add one resource to the definitions. Returns what is wrong with it."""
    problems: list[str] = []
    where = f"{resource.origin}: Resiliency {resource.name}: spec"

    def section(part: Mapping[str, Any], path: str, read: Callable[[object], _V]) -> dict[str, _V]:
        return _section(part.get(path.rpartition(".")[2]), f"{where}.{path}", read, problems)

    into.timeouts.update(section(resource.policies, "policies.timeouts", reading.read_timeout))
    retries = section(resource.policies, "policies.retries", reading.read_retry)
    for name, policy in retries.items():
        at = f"{where}.policies.retries.{name}"
        if name in PROTECTED:
            into.warnings.append(f"{at}: {name} cannot be replaced; the built-in policy stays")
        elif name in BUILT_IN_RETRIES and policy.max_retries < MINIMUM_RETRIES:
            into.warnings.append(f"{at}.maxRetries: {name} has at least {MINIMUM_RETRIES}, which are used")
            into.retries[name] = replace(policy, max_retries=MINIMUM_RETRIES)
        else:
            into.retries[name] = policy
    into.breakers.update(
        section(
            resource.policies,
            "policies.circuitBreakers",
            lambda raw: reading.read_breaker(raw, compile_expression),
        )
    )
    apps = section(resource.targets, "targets.apps", reading.read_app)
    actors = section(resource.targets, "targets.actors", reading.read_actor)
    components = section(resource.targets, "targets.components", reading.read_component)
    into.apps.update(apps)
    into.actors.update(actors)
    into.components.update(components)
    into.users.extend((f"{where}.targets.apps.{name}", target) for name, target in apps.items())
    into.users.extend((f"{where}.targets.actors.{name}", target) for name, target in actors.items())
    for name, target in components.items():
        at = f"{where}.targets.components.{name}"
        into.users.extend(((f"{at}.outbound", target.outbound), (f"{at}.inbound", target.inbound)))
    return problems


def _section(raw: object, path: str, read: Callable[[object], _V], problems: list[str]) -> dict[str, _V]:
    """The entries of one mapping that can be read; the others go to `problems`."""
    try:
        entries = msgspec.convert(raw or {}, dict[str, Any])
    except msgspec.ValidationError as error:
        problems.append(f"{path}: {error}")
        return {}
    found: dict[str, _V] = {}
    for name, value in entries.items():
        try:
            found[name] = read(value)
        except msgspec.ValidationError as error:
            problem, _, inside = str(error).partition(" - at `$")
            problems.append(f"{path}.{name}{inside.rstrip('`')}: {problem}")
        except ValueError as error:
            problems.append(f"{path}.{name}: {error}")
    return found


def _undefined(definitions: _Definitions) -> list[str]:
    """The names of policies that a target has and no resource defines."""
    return [
        f"{at}.{field_name}: no policy is called {wanted!r}"
        for at, names in definitions.users
        for field_name, wanted, defined in (
            ("timeout", names.timeout, definitions.timeouts),
            ("retry", names.retry, definitions.retries),
            ("circuitBreaker", names.circuit_breaker, definitions.breakers),
        )
        if wanted and wanted not in defined
    ]
