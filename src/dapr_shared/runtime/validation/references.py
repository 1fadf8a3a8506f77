"""What resources say about one another: names that exist, rules that compile, tokens that differ.

Before both roads, for `validate`. What would keep an instance from starting is an error. A name that leads nowhere is a
warning where the instance goes on without it, and where its resource may be among files that were not given.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from dapr_shared.blocks.pubsub.routing import RuleError, compile_match
from dapr_shared.channel.base import ChannelConfigurationError
from dapr_shared.channel.external import ExternalConnections, HttpTarget
from dapr_shared.components.catalog import block_of
from dapr_shared.components.nameresolution.table import NameResolutionError, make_resolver
from dapr_shared.core.ids import AppRef
from dapr_shared.resiliency.policy_set import PolicySet, ResiliencyError
from dapr_shared.resources.errors import did_you_mean
from dapr_shared.resources.model import ChannelProtocol
from dapr_shared.runtime.embedded import PUBSUB_NAME, STORE_NAME
from dapr_shared.runtime.operators.weak_tokens import is_weak
from dapr_shared.runtime.tracing import TracingConfigurationError, plan_of
from dapr_shared.security.access_control import AccessPolicy
from dapr_shared.security.api_access import ApiAccess
from dapr_shared.security.errors import SecurityConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from dapr_shared.resiliency.policy import Trip
    from dapr_shared.resources.loader import Resources
    from dapr_shared.resources.model import (
        App,
        Component,
        Configuration,
        HTTPEndpoint,
        MetadataItem,
        Resiliency,
        Subscription,
    )
    from dapr_shared.resources.origin import Origin
    from dapr_shared.resources.places import FieldPlaces
    from dapr_shared.runtime.validation.problems import Problems

_HTTP = frozenset({ChannelProtocol.HTTP, ChannelProtocol.HTTPS, ChannelProtocol.H2C})
_KUBERNETES = "kubernetes"
_ELSEWHERE = "unless it is in files that were not given"


class ClusterView(NamedTuple):
    """What is different in a cluster."""

    annotated: frozenset[AppRef]
    """Apps that annotations describe: a Pod's token proves them, and a Service may be called alone."""
    place: Callable[[Origin, str], tuple[Origin, str]]
    """Place and name of a field of an App, which may be an annotation."""


class References:
    """Checks one set of resources."""

    def __init__(
        self,
        resources: Resources,
        places: FieldPlaces,
        problems: Problems,
        app_ids: Collection[str] = (),
        *,
        cluster: ClusterView | None = None,
    ) -> None:
        """`app_ids`: apps that are there without an App resource, as those of a run file."""
        self._cluster = cluster
        self._built_in = frozenset({STORE_NAME, PUBSUB_NAME}) if cluster is None else frozenset[str]()
        """Components that are there without a resource."""
        self._resources = resources
        self._places = places
        self._problems = problems
        self._app_ids = {*app_ids, *(app.app_id for app in resources.apps)}
        self._names: dict[tuple[str, str], set[str]] = {}
        """Names of components by namespace and block."""
        for component in resources.components:
            self._names.setdefault((component.namespace, block_of(component.type)), set()).add(component.name)

    def check(self) -> None:
        """Report everything."""
        for app in self._resources.apps:
            self._app(app)
        for configuration in self._resources.configurations:
            self._configuration(configuration)
        for component in self._resources.components:
            self._scopes(component.origin, component.scopes)
            self._secrets(component)
        for subscription in self._resources.subscriptions:
            self._subscription(subscription)
        for endpoint in self._resources.http_endpoints:
            self._endpoint(endpoint)
        self._resiliencies()

    def _error(self, origin: Origin, field: str, problem: str) -> None:
        self._problems.error(*self._place(origin, field), problem)

    def _warning(self, origin: Origin, field: str, problem: str) -> None:
        self._problems.warning(*self._place(origin, field), problem)

    def _place(self, origin: Origin, field: str) -> tuple[Origin, str]:
        return (self._places.of(origin, field), field) if self._cluster is None else self._cluster.place(origin, field)

    # Apps ------------------------------------------------------------------------------------------------------------
    def _app(self, app: App) -> None:
        for index, token in enumerate(app.tokens):
            field = f"spec.tokens[{index}]"
            if token.sha256 and is_weak(bytes.fromhex(token.sha256), app.app_id):
                fix = f"make another: dapr-shared token new {app.app_id}"
                self._warning(app.origin, f"{field}.sha256", f"is the digest of a token that is easy to guess; {fix}")
            if token.secret_key_ref is not None:
                self._store_of(app.origin, field, app.namespace, app.secret_store)
        if app.channel is not None and app.channel.api_token is not None and app.channel.api_token.secret_key_ref:
            self._store_of(app.origin, "spec.channel.apiToken", app.namespace, app.secret_store)
        self._evidence(app)
        if app.configuration:
            names = {c.name for c in self._resources.configurations if c.namespace == app.namespace}
            if app.configuration not in names:
                text = f"there is no Configuration {app.configuration!r} in namespace {app.namespace}"
                self._error(app.origin, "spec.configuration", text + did_you_mean(app.configuration, names))
        stores = self._names.get((app.namespace, "secretstores"), set())
        for index, scope in enumerate(app.secrets.scopes):
            if scope.store_name not in stores:
                text = f"there is no secret store {scope.store_name!r} in namespace {app.namespace}, {_ELSEWHERE}"
                field = f"spec.secrets.scopes[{index}].storeName"
                self._warning(app.origin, field, text + did_you_mean(scope.store_name, stores))

    def _evidence(self, app: App) -> None:
        listeners, cluster = app.listeners, self._cluster
        owned = listeners.http_port or listeners.grpc_port or listeners.unix_socket
        if app.tokens or owned or app.certificates:
            return
        fix = f"dapr-shared token new {app.app_id} prints a token and the line for it"
        missing = "tokens, listeners or certificates"
        if cluster is not None:
            if app.service_account or app.ref in cluster.annotated:
                return
            missing = "tokens, certificates or serviceAccount, and no Pod here has its app id as an annotation"
        self._warning(app.origin, "spec", f"has no {missing}: the app cannot call the API; {fix}")

    def _configuration(self, configuration: Configuration) -> None:
        users = [app for app in self._resources.apps if _uses(app, configuration)]
        kinds = {not app.channel or app.channel.protocol in _HTTP for app in users} or {True}
        for http in kinds:
            try:
                AccessPolicy(AppRef("app", configuration.namespace), configuration, http=http)
                ApiAccess(configuration)
            except SecurityConfigurationError as error:
                self._error(configuration.origin, error.field, error.problem)
        try:
            plan_of(configuration, {})
        except TracingConfigurationError as error:
            field, _, problem = str(error).partition(" ")
            self._error(configuration.origin, f"spec.{field.removesuffix(':')}", problem)
        try:
            make_resolver(configuration.spec.get("nameResolution"), port=1)
        except NameResolutionError as error:
            field, _, problem = str(error).partition(": ")
            self._error(configuration.origin, field, problem)

    # Components and what refers to them ------------------------------------------------------------------------------
    def _scopes(self, origin: Origin, scopes: Iterable[str]) -> None:
        if not self._app_ids:  # single-app mode, or the apps are elsewhere: nobody knows
            return
        for index, scope in enumerate(scopes):
            if scope and scope not in self._app_ids:
                text = f"names no app: there is no App {scope!r}, {_ELSEWHERE}{did_you_mean(scope, self._app_ids)}"
                self._warning(origin, f"scopes[{index}]", text)

    def _secrets(self, component: Component) -> None:
        for index, item in enumerate(component.metadata):
            if item.secret_key_ref is not None:
                field = f"spec.metadata[{index}].secretKeyRef"
                if component.secret_store == component.name:
                    self._error(component.origin, "auth.secretStore", "is the component itself")
                else:
                    self._store_of(component.origin, field, component.namespace, component.secret_store, item)

    def _store_of(
        self, origin: Origin, field: str, namespace: str, store: str, item: MetadataItem | None = None
    ) -> None:
        if not store:
            if item is None or item.value is None:
                self._error(origin, field, "needs a secret store: name one in auth.secretStore")
            return
        stores = self._names.get((namespace, "secretstores"), set())
        if store not in stores and store != _KUBERNETES:
            text = f"there is no secret store {store!r} in namespace {namespace}{did_you_mean(store, stores)}"
            self._error(origin, "auth.secretStore", text)

    def _subscription(self, subscription: Subscription) -> None:
        origin = subscription.origin
        self._scopes(origin, subscription.scopes)
        for index, rule in enumerate(subscription.rules):
            try:
                if rule.match:
                    compile_match(rule.match)
            except RuleError as error:
                self._error(origin, f"spec.routes.rules[{index}].match", str(error))
        known = self._names.get((subscription.namespace, "pubsub"), set())
        if subscription.pubsub_name in known or (
            not known and subscription.pubsub_name == PUBSUB_NAME in self._built_in
        ):
            return  # without a pubsub component there is the built-in one, of that name
        text = f"there is no pubsub component {subscription.pubsub_name!r} in namespace {subscription.namespace}, {_ELSEWHERE}"
        self._warning(origin, "spec.pubsubname", text + did_you_mean(subscription.pubsub_name, known))

    def _endpoint(self, endpoint: HTTPEndpoint) -> None:
        self._scopes(endpoint.origin, endpoint.scopes)
        for index, header in enumerate(endpoint.headers):
            if header.secret_key_ref is not None:
                field = f"spec.headers[{index}].secretKeyRef"
                self._store_of(endpoint.origin, field, endpoint.namespace, endpoint.secret_store, header)

        async def made() -> None:
            HttpTarget(endpoint.base_url, ExternalConnections())

        try:
            asyncio.run(made())
        except ChannelConfigurationError:  # its text holds the URL, and that may hold a password
            expected = "expected an absolute http or https URL without query, found another text (not shown)"
            self._error(endpoint.origin, "spec.baseUrl", expected)

    def _resiliencies(self) -> None:
        for resiliency in self._resources.resiliencies:
            self._scopes(resiliency.origin, resiliency.scopes)
            try:
                made = PolicySet.from_resource(resiliency, compile_expression=_compiles)
            except ResiliencyError as error:
                for line in error.problems:
                    self._error(resiliency.origin, *_field_of(line, resiliency))
            else:
                for line in made.warnings:
                    self._warning(resiliency.origin, *_field_of(line, resiliency))
            targets = resiliency.targets
            self._targets(resiliency.origin, "apps", targets.get("apps"), self._app_ids)
            names = {c.name for c in self._resources.components if c.namespace == resiliency.namespace}
            self._targets(resiliency.origin, "components", targets.get("components"), names | self._built_in)

    def _targets(self, origin: Origin, kind: str, given: object, known: set[str]) -> None:
        if not isinstance(given, dict) or not self._app_ids:
            return
        for name in map(str, given):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            if name not in known:
                text = f"names nothing that is there, {_ELSEWHERE}{did_you_mean(name, known)}"
                self._warning(origin, f"spec.targets.{kind}.{name}", text)


def _compiles(text: str) -> Trip:
    """Whether a circuit breaker's `trip` is an expression; what it says is not asked here. Raises `ValueError`."""
    compile_match(text)
    return lambda _counts: False


def _uses(app: App, configuration: Configuration) -> bool:
    return app.namespace == configuration.namespace and app.configuration == configuration.name


def _field_of(line: str, resource: Resiliency) -> tuple[str, str]:
    """Field and problem of a line that begins with the place and the name of its resource."""
    rest = line.removeprefix(f"{resource.origin}: ").removeprefix(f"Resiliency {resource.name}: ")
    field, colon, problem = rest.partition(": ")
    return (field, problem) if colon and field.startswith("spec.") else ("spec", rest)
