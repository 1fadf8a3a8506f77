"""Dapr's kinds but Configuration, from fields to data; lenient, as Dapr reads them.

Before both roads: a step of loading. Source of every rule: reference resources §1 to §8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dapr_shared.core.durations import parse_go_duration
from dapr_shared.core.ids import DEFAULT_NAMESPACE
from dapr_shared.resources.app_kind import secret_key_ref
from dapr_shared.resources.model import (
    BulkSubscribe,
    Component,
    HTTPEndpoint,
    MetadataItem,
    Other,
    Resiliency,
    Subscription,
    SubscriptionRule,
)

if TYPE_CHECKING:
    from dapr_shared.resources.fields import Fields

_DEFAULT_INIT_TIMEOUT = 5.0


class Named(NamedTuple):
    """What every resource has."""

    name: str
    namespace: str


def named(fields: Fields, default_namespace: str, *, name_required: bool = True) -> Named:
    """Name and namespace of a resource. Kubernetes' own metadata is not looked at."""
    fields.known("apiVersion", "kind", "metadata", "spec", "auth", "scopes", "status")
    metadata = fields.section("metadata")
    name = metadata.text("name", required=name_required)
    if name in (".", "..") or "/" in name or "%" in name:
        metadata.wrong("name", "is not a name for a resource: '.', '..', '/' and '%' cannot be used in paths")
    return Named(name, metadata.text("namespace") or default_namespace or DEFAULT_NAMESPACE)


def component(fields: Fields, *, namespace: str) -> Component:
    """Decode a Component; what is wrong is in the fields' report."""
    own, spec = named(fields, namespace), fields.section("spec")
    result = Component(
        name=own.name,
        namespace=own.namespace,
        type=spec.text("type", required=True),
        version=spec.text("version"),
        ignore_errors=spec.boolean("ignoreErrors"),
        init_timeout=_init_timeout(spec),
        metadata=tuple(_item(item) for item in spec.sections("metadata")),
        secret_store=_secret_store(fields),
        scopes=fields.texts("scopes"),
        origin=fields.report.origin(fields.line),
    )
    spec.finish()
    fields.finish()
    return result


def _init_timeout(spec: Fields) -> float:
    """Seconds. What is no duration, or not above zero, means the default: so Dapr has it, but we say so."""
    text = spec.text("initTimeout")
    if not text:
        return _DEFAULT_INIT_TIMEOUT
    try:
        seconds = parse_go_duration(text)
    except ValueError as error:
        spec.notice("initTimeout", f"{error}; the default of 5s is used")
        return _DEFAULT_INIT_TIMEOUT
    if seconds <= 0:
        spec.notice("initTimeout", "is not above zero; the default of 5s is used")
        return _DEFAULT_INIT_TIMEOUT
    return seconds


def _item(item: Fields) -> MetadataItem:
    result = MetadataItem(
        name=item.text("name", required=True),
        value=item.any_value("value"),
        secret_key_ref=secret_key_ref(item.section("secretKeyRef")) if item.section("secretKeyRef") else None,
        env_ref=item.text("envRef"),
    )
    item.finish()
    return result


def _secret_store(fields: Fields) -> str:
    auth = fields.section("auth")
    store = auth.text("secretStore")
    auth.finish()
    return store


def http_endpoint(fields: Fields, *, namespace: str) -> HTTPEndpoint:
    """Decode an HTTPEndpoint; what is wrong is in the fields' report."""
    own, spec = named(fields, namespace), fields.section("spec")
    result = HTTPEndpoint(
        name=own.name,
        namespace=own.namespace,
        base_url=spec.text("baseUrl", required=True, secret=True),
        headers=tuple(_item(header) for header in spec.sections("headers")),
        client_tls=spec.raw("clientTLS"),
        secret_store=_secret_store(fields),
        scopes=fields.texts("scopes"),
        origin=fields.report.origin(fields.line),
    )
    spec.finish()
    fields.finish()
    return result


def subscription(fields: Fields, *, namespace: str, api_version: str) -> Subscription:
    """Decode a Subscription of v1alpha1 (`route`) or v2alpha1 (`routes`); what is wrong is in the fields' report."""
    own, spec = named(fields, namespace), fields.section("spec")
    result = Subscription(
        name=own.name,
        namespace=own.namespace,
        pubsub_name=spec.text("pubsubname", required=True),
        topic=spec.text("topic", required=True),
        rules=_routes(spec.section("routes")) if api_version == "v2alpha1" else _default_route(spec.text("route")),
        metadata=spec.text_map("metadata"),
        dead_letter_topic=spec.text("deadLetterTopic"),
        bulk_subscribe=_bulk_subscribe(spec.section("bulkSubscribe")),
        scopes=fields.texts("scopes"),
        origin=fields.report.origin(fields.line),
    )
    spec.finish()
    fields.finish()
    return result


def _routes(routes: Fields) -> tuple[SubscriptionRule, ...]:
    rules: list[SubscriptionRule] = []
    for rule in routes.sections("rules"):
        rules.append(SubscriptionRule(match=rule.text("match"), path=rule.text("path", required=True)))
        rule.finish()
    default = _default_route(routes.text("default"))
    routes.finish()
    return (*rules, *default)


def _default_route(path: str) -> tuple[SubscriptionRule, ...]:
    return (SubscriptionRule(path=path),) if path else ()


def _bulk_subscribe(bulk: Fields) -> BulkSubscribe:
    defaults = BulkSubscribe()
    result = BulkSubscribe(
        enabled=bulk.boolean("enabled"),
        # 0 means the default, as in Dapr.
        max_messages_count=bulk.integer("maxMessagesCount", minimum=0) or defaults.max_messages_count,
        max_await_duration_ms=bulk.integer("maxAwaitDurationMs", minimum=0) or defaults.max_await_duration_ms,
    )
    bulk.finish()
    return result


def resiliency(fields: Fields, *, namespace: str) -> Resiliency:
    """Decode a Resiliency; its policies and targets stay as they are."""
    own, spec = named(fields, namespace), fields.section("spec")
    result = Resiliency(
        name=own.name,
        namespace=own.namespace,
        policies=spec.raw("policies"),
        targets=spec.raw("targets"),
        scopes=fields.texts("scopes"),
        origin=fields.report.origin(fields.line),
    )
    spec.finish()
    fields.finish()
    return result


def other(fields: Fields, *, namespace: str, kind: str, api_version: str) -> Other:
    """Keep a resource of a kind without effect."""
    own = named(fields, namespace)
    return Other(
        kind=kind,
        api_version=api_version,
        name=own.name,
        namespace=own.namespace,
        spec=fields.raw("spec"),
        scopes=fields.texts("scopes"),
        origin=fields.report.origin(fields.line),
    )
