"""Dapr's Configuration, from fields to data, and the variables in its text.

Before both roads: a step of loading. Source of every rule: reference resources §1 and §4.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dapr_shared.resources.app_kind import secret_scopes
from dapr_shared.resources.dapr_kinds import named
from dapr_shared.resources.model import ApiLogging, ApiRule, Configuration, Metrics, Tracing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.resources.fields import Fields

_RAW_PARTS = ("httpPipeline", "appHttpPipeline", "mtls", "nameResolution", "wasm", "workflow")
_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|(\{)|([*#$@!?0-9-])|([A-Za-z0-9_]+))")
_DOCUMENT_START = re.compile(r"^(?=---(?:\s|$))", re.MULTILINE)
_CONFIGURATION = re.compile(r"^kind:[ \t]*[\"']?Configuration\b", re.MULTILINE)


def configuration(fields: Fields, *, namespace: str) -> Configuration:
    """Decode a Configuration; what is wrong is in the fields' report."""
    # daprd reads a file given with --config without looking at its name.
    own, spec = named(fields, namespace, name_required=False), fields.section("spec")
    api, components, logging = spec.section("api"), spec.section("components"), spec.section("logging")
    access_control = spec.raw("accessControl")
    result = Configuration(
        name=own.name,
        namespace=own.namespace,
        secret_scopes=secret_scopes(spec.section("secrets")),
        features=_features(spec),
        tracing=_tracing(spec.section("tracing")),
        metrics=_metrics(spec.section("metric"), spec.section("metrics")),
        api_logging=_api_logging(logging.section("apiLogging")),
        api_allowed=_api_rules(api, "allowed"),
        api_denied=_api_rules(api, "denied"),
        components_denied=components.texts("deny"),
        access_control=access_control if spec.has("accessControl") else None,
        spec=fields.raw("spec"),
        origin=fields.report.origin(fields.line),
    )
    spec.known(*_RAW_PARTS)
    for section in (api, components, logging, spec, fields):
        section.finish()
    return result


def _features(spec: Fields) -> dict[str, bool]:
    features: dict[str, bool] = {}
    for feature in spec.sections("features"):
        features[feature.text("name", required=True)] = feature.boolean("enabled")
        feature.finish()
    return features


def _tracing(tracing: Fields) -> Tracing:
    zipkin = tracing.section("zipkin")
    result = Tracing(
        sampling_rate=_sampling_rate(tracing),
        stdout=tracing.boolean("stdout"),
        zipkin_endpoint=zipkin.text("endpointAddress"),
        otel=tracing.raw("otel"),
    )
    zipkin.finish()
    tracing.finish()
    return result


def _sampling_rate(tracing: Fields) -> float:
    text = tracing.text("samplingRate")
    default = Tracing().sampling_rate
    if not text:
        return default
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not rate >= 0:
        tracing.notice("samplingRate", f"is not a number from 0 to 1; the default of {default:.4f} is used")
        return default
    return min(rate, 1.0)


def _metrics(metric: Fields, metrics: Fields) -> Metrics:
    """`metrics` over `metric`, field by field."""

    def of(name: str) -> Fields:
        return metrics if metrics.has(name) or not metric.has(name) else metric

    old_http, new_http = metric.section("http"), metrics.section("http")

    def of_http(name: str) -> Fields:
        return new_http if new_http.has(name) or not old_http.has(name) else old_http

    defaults = Metrics()
    result = Metrics(
        enabled=of("enabled").boolean("enabled", default=defaults.enabled),
        record_error_codes=of("recordErrorCodes").boolean("recordErrorCodes"),
        increased_cardinality=of_http("increasedCardinality").boolean(
            "increasedCardinality", default=defaults.increased_cardinality
        ),
        path_matching=of_http("pathMatching").texts("pathMatching"),
        exclude_verbs=of_http("excludeVerbs").boolean("excludeVerbs"),
        latency_distribution_buckets=of("latencyDistributionBuckets").integers("latencyDistributionBuckets"),
    )
    for section in (metric, metrics):
        section.known("enabled", "recordErrorCodes", "latencyDistributionBuckets", "rules", "workflow")
    for section in (old_http, new_http):
        section.known("increasedCardinality", "pathMatching", "excludeVerbs")
    for section in (old_http, new_http, metric, metrics):
        section.finish()
    return result


def _api_logging(logging: Fields) -> ApiLogging:
    result = ApiLogging(
        enabled=logging.boolean("enabled"),
        obfuscate_urls=logging.boolean("obfuscateURLs"),
        omit_health_checks=logging.boolean("omitHealthChecks"),
    )
    logging.finish()
    return result


def _api_rules(api: Fields, name: str) -> tuple[ApiRule, ...]:
    rules: list[ApiRule] = []
    for rule in api.sections(name):
        rules.append(
            ApiRule(
                name=rule.text("name", required=True),
                version=rule.text("version"),
                protocol=rule.choice("protocol", ("", "http", "grpc"), ""),
            )
        )
        rule.finish()
    return tuple(rules)


def expand_variables(text: str, environment: Mapping[str, str]) -> str:
    """Put variables in place of `$NAME` and `${NAME}` in the documents of kind Configuration; an unset one is empty.

    As Go's `os.ExpandEnv`: `$$` and other special names are variables too (unset, so empty), `${` without an end is
    dropped. Dapr expands the whole file, which holds nothing else there; here other documents stay as they are.
    """

    def value(match: re.Match[str]) -> str:
        return environment.get(match[1] or match[3] or match[4] or "", "")

    if "$" not in text:
        return text
    parts = _DOCUMENT_START.split(text)
    return "".join(_VARIABLE.sub(value, part) if _CONFIGURATION.search(part) else part for part in parts)
