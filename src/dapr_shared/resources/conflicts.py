"""Which resources exclude each other, though each is right by itself.

Before both roads: the last step of loading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.resources.errors import ResourceError
from dapr_shared.resources.model import Configuration, HTTPEndpoint, Resiliency, Subscription

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from dapr_shared.resources.model import App

_EVERY_APP = ""
Named = Configuration | HTTPEndpoint | Subscription | Resiliency


def name_conflicts(resources: Iterable[Named]) -> list[ResourceError]:
    """Two of one kind and name in one namespace that some app would both see: it could not say which it means."""
    errors: list[ResourceError] = []
    seen: dict[tuple[type, str, str], dict[str, Named]] = {}
    for resource in resources:
        by_scope = seen.setdefault((type(resource), resource.namespace, resource.name), {})
        scopes = _scopes(resource) or (_EVERY_APP,)
        first = _first_that_meets(by_scope, scopes)
        if first is not None:
            kind = type(resource).__name__
            problem = f"the {kind} {resource.name} in namespace {resource.namespace} is defined already: {first.origin}"
            errors.append(ResourceError(resource.origin, "metadata.name", problem))
        for scope in scopes:
            by_scope.setdefault(scope, resource)
    return errors


def app_conflicts(apps: Iterable[App]) -> list[ResourceError]:
    """Two apps of one name or app id in one namespace; a port, socket or token that two claim."""
    errors: list[ResourceError] = []
    owners: dict[Hashable, tuple[App, str]] = {}
    for app in apps:
        same_name_as: App | None = None
        for key, field, what in _claims(app):
            owner, owner_field = owners.setdefault(key, (app, field))
            if owner is app and owner_field == field:
                continue
            if owner is app:
                problem = f"{what} is used twice, also as {owner_field}"
            else:
                problem = f"{what} belongs to the app {owner.ref} already: {owner.origin}"
            again_token = owner is app and field.startswith("spec.tokens")  # it proves the same app: no conflict
            again_id = field == "spec.appId" and owner is same_name_as  # said already with the name
            if not again_token and not again_id:
                errors.append(ResourceError(app.origin, field, problem))
            if field == "metadata.name":
                same_name_as = owner
    return errors


def _claims(app: App) -> Iterator[tuple[Hashable, str, str]]:
    """What only one app can have: a key to compare, the field, and words for it that hold no secret."""
    yield ("name", app.namespace, app.name), "metadata.name", f"the name {app.name} in namespace {app.namespace}"
    yield ("app id", app.ref), "spec.appId", f"the app id {app.app_id} in namespace {app.namespace}"
    for name, port in (("httpPort", app.listeners.http_port), ("grpcPort", app.listeners.grpc_port)):
        if port is not None:
            yield ("port", port), f"spec.listeners.{name}", f"the port {port}"
    if app.listeners.unix_socket:
        path = app.listeners.unix_socket
        yield ("socket", path), "spec.listeners.unixSocket", f"the socket {path}"
    for index, token in enumerate(app.tokens):
        key: Hashable = ("token", token.sha256, token.env_ref)
        if token.secret_key_ref is not None:
            reference = token.secret_key_ref
            key = ("token", app.secret_store, reference.name, reference.effective_key)
        yield key, f"spec.tokens[{index}]", "the token"


def _scopes(resource: Named) -> tuple[str, ...]:
    return () if isinstance(resource, Configuration) else resource.scopes


def _first_that_meets(by_scope: dict[str, Named], scopes: tuple[str, ...]) -> Named | None:
    if _EVERY_APP in scopes:
        return next(iter(by_scope.values()), None)
    return next((by_scope[scope] for scope in (_EVERY_APP, *scopes) if scope in by_scope), None)
