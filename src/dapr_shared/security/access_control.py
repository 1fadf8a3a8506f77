"""Which apps may call which operations of an app: `accessControl` in the Configuration of the app that is called.

Step 3 of the request road, for service invocation and gRPC proxying. A caller is proved by its evidence, so that a
policy counts between two apps of one instance as well as between instances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from dapr_shared.core import errors
from dapr_shared.security.errors import SecurityConfigurationError
from dapr_shared.security.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.core.errors import DaprError
    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources.model import Configuration

DEFAULT_TRUST_DOMAIN = "public"


class Decision(NamedTuple):
    """Whether a call is allowed, and by what."""

    allowed: bool
    policy: Literal["app", "global"] | None
    """`app`: the policy for this caller; `global`: the default action; `None`: there is no rule, nothing to count.
    The metrics `runtime_acl_<policy>_policy_action_<allowed|blocked>_total` have it in their names."""


_NO_VERB = frozenset({"", "NONE"})
"""A call that is none of HTTP; Dapr writes `NONE`. No verb of a policy is for it, not even `*`."""
_DOT_SEGMENTS = frozenset({".", ".."})
_UNRESTRICTED = Decision(allowed=True, policy=None)
_BY_APP = {action: Decision(action, "app") for action in (True, False)}
_BY_DEFAULT = {action: Decision(action, "global") for action in (True, False)}


class AccessPolicy:
    """The access control of one called app, compiled once (reference behaviours §5).

    The policy for a caller is found by app id and namespace and counts only if the trust domain is the same. In it the
    operation decides, by verb for HTTP apps; then the policy's default action; then the global one. Without a global
    default action everything is denied as soon as there is a policy, and allowed if there is none.

    Stricter than daprd at load: an unknown field, an action other than allow and deny, an operation of an HTTP app
    without verbs, and a second policy for one caller are errors, since they would not do what they seem to say.
    """

    __slots__ = ("_default", "_http", "_policies", "_restricted", "callee", "trust_domain")

    def __init__(self, callee: AppRef, configuration: Configuration | None, *, http: bool) -> None:
        """`http`: the app speaks HTTP (any version); otherwise gRPC.

        Raises `SecurityConfigurationError`.
        """
        self.callee = callee
        self._http = http
        spec = _decode(configuration) if configuration and configuration.access_control else _AccessControl()
        self.trust_domain = spec.trust_domain or DEFAULT_TRUST_DOMAIN
        """The trust domain that this app itself calls others from."""
        self._restricted = bool(spec.policies or spec.default_action)
        self._default = _BY_DEFAULT[not spec.policies]
        self._policies: dict[tuple[str, str, str], _AppPolicy] = {}
        if configuration is None:
            return
        try:
            self._compile(spec)
        except _WrongFieldError as error:
            raise _error(configuration, error.field, error.problem) from error

    def decide(self, caller: AppRef | None, trust_domain: str, operation: str, verb: str = "") -> Decision:
        """Whether `caller` may call `operation`.

        `caller` is `None` where nothing proves it. `operation` is the method as it will be sent to the app,
        percent-decoded and normalised, or `/package.Service/Method`; a path that still has `.` or `..` in it is
        refused. `verb` is the HTTP verb, empty or `NONE` for gRPC. An app may always call itself.
        """
        if not self._restricted or (caller == self.callee and trust_domain == self.trust_domain):
            return _UNRESTRICTED
        if "." in operation and not _DOT_SEGMENTS.isdisjoint(operation.split("/")):
            return _BY_DEFAULT[False]
        policy = self._policies.get((caller.app_id, caller.namespace, trust_domain)) if caller else None
        if policy is None:
            return self._default
        found = policy.operations.find(operation)
        action = policy.default
        if found is not None:
            action = self._action(found.verbs, verb, action) if self._http else found.action
        return self._default if action is None else _BY_APP[action]

    def refusal(self, caller: AppRef | None, operation: str, verb: str = "") -> DaprError:
        """The error of a call that is denied, with daprd's words."""
        detail = (
            f"access control policy has denied access to id: {caller.app_id if caller else ''} "
            f"operation: {operation} verb: {verb or 'NONE'}"
        )
        return errors.INVOKE_DENIED(app=self.callee.app_id, detail=detail)

    @staticmethod
    def _action(verbs: Mapping[str, bool], verb: str, default: bool | None) -> bool | None:  # noqa: FBT001 the action
        verb = verb.upper()
        if verb in _NO_VERB:
            return default
        action = verbs.get(verb)
        if action is None:
            action = verbs.get("*")
        return default if action is None else action

    def _compile(self, spec: _AccessControl) -> None:
        if spec.default_action:
            self._default = _BY_DEFAULT[_allows("spec.accessControl.defaultAction", spec.default_action)]
        for index, policy in enumerate(spec.policies or ()):
            path = f"spec.accessControl.policies[{index}]"
            for name, value in (
                ("appId", policy.app_id),
                ("trustDomain", policy.trust_domain),
                ("namespace", policy.namespace),
            ):
                if not value:
                    raise _WrongFieldError(f"{path}.{name}", "is required")
            key = (policy.app_id or "", policy.namespace or "", policy.trust_domain or "")
            if key in self._policies:
                raise _WrongFieldError(f"{path}.appId", f"a second policy for {policy.app_id}; merge the two")
            self._policies[key] = self._app_policy(path, policy)

    def _app_policy(self, path: str, policy: _Policy) -> _AppPolicy:
        default = _allows(f"{path}.defaultAction", policy.default_action) if policy.default_action else None
        operations = Operations(fold_case=self._http)
        for index, operation in enumerate(policy.operations or ()):
            at = f"{path}.operations[{index}]"
            if not operation.name:
                raise _WrongFieldError(f"{at}.name", "is required, such as /orders or /orders/*")
            if self._http and not operation.http_verb:
                raise _WrongFieldError(
                    f"{at}.httpVerb", f"is required for an HTTP app ({self.callee}): list verbs, or '*'"
                )
            try:
                operations.add(operation.name, _allows(f"{at}.action", operation.action), operation.http_verb or ())
            except ValueError as error:
                raise _WrongFieldError(f"{at}.name", str(error)) from error
        return _AppPolicy(default, operations)


class _AppPolicy(NamedTuple):
    default: bool | None
    operations: Operations


class _Operation(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    name: str | None = None
    http_verb: tuple[str, ...] | None = None
    action: str | None = None


class _Policy(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    app_id: str | None = None
    default_action: str | None = None
    trust_domain: str | None = None
    namespace: str | None = None
    operations: tuple[_Operation, ...] | None = None


class _AccessControl(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    default_action: str | None = None
    trust_domain: str | None = None
    policies: tuple[_Policy, ...] | None = None


class _WrongFieldError(Exception):
    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem


def _decode(configuration: Configuration) -> _AccessControl:
    raw: Any = configuration.access_control
    try:
        return msgspec.convert(raw, _AccessControl)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        raise _error(configuration, f"spec.accessControl{path.rstrip('`')}", problem) from error


def _error(configuration: Configuration, field: str, problem: str) -> SecurityConfigurationError:
    return SecurityConfigurationError(configuration.origin, f"Configuration {configuration.name}", field, problem)


def _allows(field: str, action: str | None) -> bool:
    """Dapr ignores the case of an action and takes any other word for deny; here another word is an error."""
    word = (action or "").lower()
    if word not in {"allow", "deny"}:
        raise _WrongFieldError(field, f"expected allow or deny, found {action!r}")
    return word == "allow"
