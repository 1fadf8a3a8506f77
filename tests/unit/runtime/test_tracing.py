"""Configurations and the environment become rates and targets."""

from __future__ import annotations

import pytest

from dapr_shared.resources.loader import load_objects
from dapr_shared.runtime.tracing import TracingConfigurationError, TracingPlan, plan_of


def of(tracing=None, **environment):
    configuration = None
    if tracing is not None:
        document = {"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": "c"},
                    "spec": {"tracing": tracing}}  # fmt: skip
        configuration = load_objects([document], source="test").configurations[0]
    return plan_of(configuration, environment)


OTEL = {"endpointAddress": "host:4317", "protocol": "grpc"}


def test_the_default_samples_and_exports_nothing():
    """Without a Configuration one trace in ten thousand is sampled, for nobody."""
    assert of() == of({}) == TracingPlan(1e-4)


def test_every_field_of_otel():
    """Endpoint, protocol, headers of both forms, time-out and security; secure is the default."""
    (target,) = of({"otel": {**OTEL, "headers": ["a=b=c", "d="], "timeout": "1m", "isSecure": False}}).targets
    assert (target.kind, target.endpoint, target.secure) == ("otlp-grpc", "host:4317", False)
    assert (target.headers, target.timeout) == ((("a", "b=c"), ("d", "")), 60.0)
    (target,) = of(
        {"otel": {**OTEL, "protocol": "http", "headers": [{"name": "a", "value": "b"}], "timeout": 2e9}}
    ).targets
    assert (target.kind, target.secure, target.headers, target.timeout) == ("otlp-http", True, (("a", "b"),), 2.0)


def test_what_exports_nothing():
    """No protocol, as in daprd, and a rate of zero."""
    assert of({"otel": {"endpointAddress": "host:4317"}}).targets == ()
    assert of({"samplingRate": "0", "otel": OTEL}).targets == ()


def test_zipkin_and_the_log():
    """Both may stand beside OTLP."""
    plan = of(
        {
            "samplingRate": "0.5",
            "stdout": True,
            "zipkin": {"endpointAddress": "http://z:9411/api/v2/spans"},
            "otel": OTEL,
        }
    )
    assert (plan.rate, plan.stdout, [target.kind for target in plan.targets]) == (0.5, True, ["zipkin", "otlp-grpc"])


@pytest.mark.parametrize("traces", ["", "TRACES_"])
def test_the_environment(traces):
    """Its endpoint counts where the Configuration has none, and turns sampling on unless that says a rate."""
    environment = {
        f"OTEL_EXPORTER_OTLP_{traces}ENDPOINT": "https://host:4318",
        f"OTEL_EXPORTER_OTLP_{traces}PROTOCOL": "http/protobuf",
        f"OTEL_EXPORTER_OTLP_{traces}HEADERS": "a=b,c=d",
        f"OTEL_EXPORTER_OTLP_{traces}TIMEOUT": "1500",
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
    }
    plan = of(**environment)
    (target,) = plan.targets
    assert (plan.rate, target.kind, target.endpoint, target.secure) == (1.0, "otlp-http", "host:4318", False)
    assert (target.headers, target.timeout) == ((("a", "b"), ("c", "d")), 1.5)
    assert of({"samplingRate": "0.25"}, **environment).rate == 0.25
    assert of({"otel": OTEL}, **environment).targets[0].endpoint == "host:4317"


@pytest.mark.parametrize(
    ("tracing", "environment", "problem"),
    [
        ({"otel": {**OTEL, "protocol": "udp"}}, {}, "otel.protocol"),
        ({"otel": {**OTEL, "timeout": "0s"}}, {}, "otel.timeout"),
        ({"otel": {**OTEL, "headers": ["secret"]}}, {}, "otel.headers"),
        ({"zipkin": {"endpointAddress": "z:9411"}}, {}, "zipkin.endpointAddress"),
        (
            {},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "h:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
            "OTEL_EXPORTER_OTLP_TIMEOUT",
        ),
    ],
)
def test_what_is_wrong_is_named_and_not_shown(tracing, environment, problem):
    """The field is in the message; a header, which may be a key, is not."""
    with pytest.raises(TracingConfigurationError, match=problem) as caught:
        of(tracing, **environment)
    assert "secret" not in str(caught.value)
