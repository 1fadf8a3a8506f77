"""Which of Dapr's APIs an app may call: `api.allowed` and `api.denied` of its Configuration.

Step 3 of the request road. The front doors ask it for each call of an API; what they answer for a refused one (a
missing route over HTTP, `Unimplemented` over gRPC) is theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dapr_shared.security.errors import SecurityConfigurationError

if TYPE_CHECKING:
    from dapr_shared.resources.model import ApiRule, Configuration

Protocol = Literal["http", "grpc"]

_PATH_VERSIONS = {"v1": "v1.0", "v1alpha1": "v1.0-alpha1", "v1alpha2": "v1.0-alpha2", "v1beta1": "v1.0-beta1"}
"""How a group's version is written in paths."""


class ApiAccess:
    """The API lists of one app, compiled once (reference behaviours §6).

    A denied API is refused; with a list of allowed ones, any other is refused too. A list counts only for the protocol
    that its rules name. `healthz` is always allowed over HTTP.

    Dapr reads a gRPC list that names only unknown APIs as no list; here it allows nothing.
    """

    __slots__ = ("_grpc", "_http", "grpc_unrestricted", "http_unrestricted")

    def __init__(self, configuration: Configuration | None) -> None:
        """Raises `SecurityConfigurationError` for a rule that could never apply: it would protect nothing."""
        self._http = _Lists(configuration, "http")
        self._grpc = _Lists(configuration, "grpc")
        self.http_unrestricted = not (self._http.allowed or self._http.denied)
        """Nothing is refused over HTTP: the pipeline need not ask."""
        self.grpc_unrestricted = not (self._grpc.allowed or self._grpc.denied)
        """Nothing is refused over gRPC: the pipeline need not ask."""

    def http(self, name: str, version: str, route: str = "") -> bool:
        """Whether an HTTP API may be called.

        `name` and `version` are those of its group, such as `state` and `v1`. `route` is the route's pattern with the
        version as in paths, such as `v1.0/state/{storeName}`: rules of the older form name a beginning of it. Without
        `route`, such a rule about a part of the API's routes denies all of them and allows none.
        """
        if self.http_unrestricted or name == "healthz":
            return True
        lists = self._http
        key = f"{version}/{name}"
        path = route or f"{_PATH_VERSIONS.get(version, version)}/{name}"
        if key in lists.denied or path.startswith(lists.denied_routes):
            return False
        if not route and any(rule.startswith(f"{path}/") for rule in lists.denied_routes):
            return False
        return not lists.allowed or key in lists.allowed or path.startswith(lists.allowed_routes)

    def grpc(self, name: str, version: str) -> bool:
        """Whether a gRPC API may be called; `name` and `version` of its group, such as `state` and `v1alpha1`.

        Not for calls that are proxied to an app, nor for reflection.
        """
        if self.grpc_unrestricted:
            return True
        key = f"{version}/{name}"
        return key not in self._grpc.denied and (not self._grpc.allowed or key in self._grpc.allowed)


class _Lists:
    """The rules for one protocol, as `version/name`; the same texts are beginnings of routes in the older form."""

    __slots__ = ("allowed", "allowed_routes", "denied", "denied_routes")

    def __init__(self, configuration: Configuration | None, protocol: Protocol) -> None:
        self.allowed = _keys(configuration, "allowed", protocol)
        self.denied = _keys(configuration, "denied", protocol)
        self.allowed_routes = tuple(self.allowed)
        self.denied_routes = tuple(self.denied)


def _keys(
    configuration: Configuration | None, which: Literal["allowed", "denied"], protocol: Protocol
) -> frozenset[str]:
    if configuration is None:
        return frozenset()
    rules = configuration.api_allowed if which == "allowed" else configuration.api_denied
    for index, rule in enumerate(rules):
        _check(configuration, f"spec.api.{which}[{index}]", rule)
    return frozenset(f"{rule.version}/{rule.name}" for rule in rules if rule.protocol.lower() == protocol)


def _check(configuration: Configuration, path: str, rule: ApiRule) -> None:
    problems = {
        "name": "" if rule.name else "the name of an API is missing, such as state or invoke",
        "version": "" if rule.version else "the API's version is missing, such as v1 or v1alpha1",
        "protocol": ""
        if rule.protocol.lower() in {"http", "grpc"}
        else f"expected http or grpc, found {rule.protocol!r}",
    }
    for field, problem in problems.items():
        if problem:
            resource = f"Configuration {configuration.name}"
            raise SecurityConfigurationError(configuration.origin, resource, f"{path}.{field}", problem)
