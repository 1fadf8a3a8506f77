"""Dapr's kinds, from the forms that Dapr's documentation shows."""

from pathlib import Path

import pytest

from dapr_shared.resources.loader import ResourceErrors, Resources, load_objects
from dapr_shared.resources.model import (
    ApiLogging,
    ApiRule,
    BulkSubscribe,
    Component,
    Configuration,
    HTTPEndpoint,
    MetadataItem,
    Metrics,
    SecretKeyRef,
    SecretScope,
    Subscription,
    SubscriptionRule,
    Tracing,
)
from tests.support.resource_files import COMPONENT_HEAD, errors_of, load_text


def component(folder: Path, text: str) -> Component:
    (found,) = load_text(folder, text).components
    return found


def test_a_component_as_dapr_shows_it(tmp_path: Path) -> None:
    """A Redis state store in Dapr's usual form is read completely."""
    text = """\
        apiVersion: dapr.io/v1alpha1
        kind: Component
        metadata:
          name: statestore
          namespace: production
        spec:
          type: state.redis
          version: v1
          ignoreErrors: true
          initTimeout: 1m30s
          metadata:
          - name: redisHost
            value: localhost:6379
          - name: redisPassword
            secretKeyRef:
              name: redis-secret
              key: redis-password
          - name: user
            secretKeyRef: {name: user}
          - name: redisDB
            value: 5
          - name: enableTLS
            value: false
          - name: fromEnv
            envRef: REDIS_THING
          - name: nothing
            value:
          - name: options
            value: {retries: 3, backoff: [1.5, 2.0]}
        auth:
          secretStore: vault
        scopes:
        - orders
        - 7
        """
    found = component(tmp_path, text)
    assert found == Component(
        name="statestore",
        namespace="production",
        type="state.redis",
        version="v1",
        ignore_errors=True,
        init_timeout=90.0,
        metadata=(
            MetadataItem(name="redisHost", value="localhost:6379"),
            MetadataItem(name="redisPassword", secret_key_ref=SecretKeyRef(name="redis-secret", key="redis-password")),
            MetadataItem(name="user", secret_key_ref=SecretKeyRef(name="user")),
            MetadataItem(name="redisDB", value="5"),
            MetadataItem(name="enableTLS", value="false"),
            MetadataItem(name="fromEnv", env_ref="REDIS_THING"),
            MetadataItem(name="nothing"),
            MetadataItem(name="options", value='{"backoff":[1.5,2],"retries":3}'),
        ),
        secret_store="vault",
        scopes=("orders", "7"),
        origin=found.origin,
    )
    assert str(found.origin) == f"{tmp_path}/res.yaml, document 1, line 1"


def test_daprs_kinds_are_read_leniently(tmp_path: Path) -> None:
    """As in Dapr, field names ignore case and numbers stand for texts; unknown fields are told, not refused."""
    text = COMPONENT_HEAD + "Spec: {Type: state.x, version: 1, ignoreerrors: true, metdata: []}\nfoo: 1\n"
    resources = load_text(tmp_path, text)
    (found,) = resources.components
    assert (found.type, found.version, found.ignore_errors) == ("state.x", "1", True)
    assert [str(notice).removeprefix(f"{tmp_path}/") for notice in resources.notices] == [
        "res.yaml, document 1, line 4: spec.metdata: unknown field; did you mean metadata?",
        "res.yaml, document 1, line 5: foo: unknown field",
    ]


@pytest.mark.parametrize(
    ("timeout", "seconds", "notices"),
    [
        ("500ms", 0.5, 0),
        ("''", 5.0, 0),
        ("soon", 5.0, 1),
        ("5", 5.0, 1),
        ("-5s", 5.0, 1),
    ],
)
def test_init_timeout(tmp_path: Path, timeout: str, seconds: float, notices: int) -> None:
    """A Go duration counts; anything else means Dapr's default of 5 s and a notice."""
    resources = load_text(tmp_path, f"{COMPONENT_HEAD}spec: {{type: a.b, initTimeout: {timeout}}}")
    assert resources.components[0].init_timeout == seconds
    assert len(resources.notices) == notices


@pytest.mark.parametrize(
    ("rest", "messages"),
    [
        ("", ["line 1: spec.type: is required: a text"]),
        ("spec: {type: [a]}", ["line 4: spec.type: expected a text, found a list"]),
        (
            "spec: {type: a.b, ignoreErrors: maybe}",
            ['line 4: spec.ignoreErrors: expected true or false, found "maybe"'],
        ),
        ("spec: {type: a.b, metadata: {}}", ["line 4: spec.metadata: expected a list, found a mapping"]),
        (
            "spec:\n  type: a.b\n  metadata:\n  - value: geheim\n  - geheim\n",
            [
                "line 7: spec.metadata[0].name: is required: a text",
                "line 8: spec.metadata[1]: expected a mapping, found a text",
            ],
        ),
        (
            "spec: {type: a.b, metadata: [{name: x, secretKeyRef: geheim}]}",
            ["line 4: spec.metadata[0].secretKeyRef: expected a mapping, found a text"],
        ),
        (
            "spec: {type: a.b, metadata: [{name: x, secretKeyRef: {key: y}}]}",
            ["line 4: spec.metadata[0].secretKeyRef.name: is required: a text"],
        ),
        ("spec: {type: a.b}\nscopes: app", ["line 5: scopes: expected a list, found a text"]),
        ("spec: {type: a.b}\nauth: {secretStore: [x]}", ["line 5: auth.secretStore: expected a text, found a list"]),
    ],
)
def test_what_is_wrong_in_a_component_is_said_exactly(tmp_path: Path, rest: str, messages: list[str]) -> None:
    """Each mistake in a Component has its message; no value of its metadata is in one."""
    assert errors_of(tmp_path, COMPONENT_HEAD + rest) == [f"res.yaml, document 1, {message}" for message in messages]


def test_a_name_cannot_be_a_path(tmp_path: Path) -> None:
    """Names that would not fit a URL path are refused, as in Dapr."""
    text = COMPONENT_HEAD.replace("store", "'a/b'") + "spec: {type: a.b}"
    (message,) = errors_of(tmp_path, text)
    assert message == (
        "res.yaml, document 1, line 3: metadata.name: is not a name for a resource: "
        "'.', '..', '/' and '%' cannot be used in paths"
    )


CONFIGURATION = """\
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: daprConfig
spec:
  tracing:
    samplingRate: "0.5"
    stdout: true
    zipkin: {endpointAddress: "http://localhost:9411/api/v2/spans"}
    otel: {endpointAddress: "localhost:4317", isSecure: false, protocol: grpc, headers: ["key=geheim"]}
  metric:
    enabled: true
    recordErrorCodes: true
    http: {increasedCardinality: true, excludeVerbs: true}
    rules: [{name: x, labels: []}]
  metrics:
    enabled: false
    latencyDistributionBuckets: [1, 5, 10]
    http: {increasedCardinality: false, pathMatching: [/orders]}
  secrets:
    scopes:
      - {storeName: local, defaultAccess: deny, allowedSecrets: ["a"]}
      - {storeName: vault, deniedSecrets: ["b"]}
  features:
    - {name: HotReload, enabled: false}
    - {name: ActorStateTTL, enabled: true}
  api:
    allowed:
      - {name: state, version: v1.0, protocol: http}
    denied:
      - {name: invoke, version: v1, protocol: grpc}
  components:
    deny: [bindings.smtp, state.in-memory/v1]
  logging:
    apiLogging: {enabled: true, obfuscateURLs: true, omitHealthChecks: true}
  accessControl:
    defaultAction: deny
    trustDomain: public
  httpPipeline:
    handlers: [{name: oauth, type: middleware.http.oauth2}]
"""


def configuration(folder: Path, text: str, **options: object) -> Configuration:
    (found,) = load_text(folder, text, **options).configurations
    return found


def test_a_configuration_with_its_parts_in_use(tmp_path: Path) -> None:
    """The parts in use are typed, `metrics` lies over `metric` field by field, and the whole spec stays as written."""
    found = configuration(tmp_path, CONFIGURATION)
    assert found == Configuration(
        name="daprConfig",
        secret_scopes=(
            SecretScope(store_name="local", default_allow=False, allowed_secrets=("a",)),
            SecretScope(store_name="vault", denied_secrets=("b",)),
        ),
        features={"HotReload": False, "ActorStateTTL": True},
        tracing=Tracing(
            sampling_rate=0.5,
            stdout=True,
            zipkin_endpoint="http://localhost:9411/api/v2/spans",
            otel={
                "endpointAddress": "localhost:4317",
                "isSecure": False,
                "protocol": "grpc",
                "headers": ["key=geheim"],
            },
        ),
        metrics=Metrics(
            enabled=False,
            record_error_codes=True,
            increased_cardinality=False,
            path_matching=("/orders",),
            exclude_verbs=True,
            latency_distribution_buckets=(1, 5, 10),
        ),
        api_logging=ApiLogging(enabled=True, obfuscate_urls=True, omit_health_checks=True),
        api_allowed=(ApiRule(name="state", version="v1.0", protocol="http"),),
        api_denied=(ApiRule(name="invoke", version="v1", protocol="grpc"),),
        components_denied=("bindings.smtp", "state.in-memory/v1"),
        access_control={"defaultAction": "deny", "trustDomain": "public"},
        spec=found.spec,
        origin=found.origin,
    )
    assert found.spec["httpPipeline"] == {"handlers": [{"name": "oauth", "type": "middleware.http.oauth2"}]}
    assert load_text(tmp_path, CONFIGURATION).notices == ()
    assert "geheim" not in repr(found)


def test_an_empty_configuration_has_daprs_defaults(tmp_path: Path) -> None:
    """Without a spec everything is as in a Dapr without a Configuration."""
    found = configuration(tmp_path, "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\n")
    assert found == Configuration(name="c", origin=found.origin)
    assert (found.tracing.sampling_rate, found.metrics.increased_cardinality) == (0.0001, True)
    assert found.access_control is None


@pytest.mark.parametrize(
    ("rate", "read", "notices"),
    [
        ("'1'", 1.0, 0),
        ("1", 1.0, 0),
        ("'0'", 0.0, 0),
        ("0.00001", 0.00001, 0),
        ("'7'", 1.0, 0),
        ("often", 0.0001, 1),
        ("'-1'", 0.0001, 1),
        ("'nan'", 0.0001, 1),
    ],
)
def test_sampling_rate(tmp_path: Path, rate: str, read: float, notices: int) -> None:
    """The sampling rate is a text with a number; what cannot be read is Dapr's default and a notice."""
    head = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\n"
    resources = load_text(tmp_path, f"{head}spec: {{tracing: {{samplingRate: {rate}}}}}\n")
    assert resources.configurations[0].tracing.sampling_rate == read
    assert len(resources.notices) == notices


def test_variables_are_put_into_configurations_only(tmp_path: Path) -> None:
    """With an environment `$VAR` and `${VAR}` are expanded as Go does, in Configurations and nowhere else."""
    text = (
        COMPONENT_HEAD
        + "spec: {type: a.b, metadata: [{name: password, value: 'a$HOST${HOST}'}]}\n"
        + "---\napiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c-$STAGE}\n"
        + "spec:\n  tracing: {samplingRate: '${RATE}', zipkin: {endpointAddress: 'x$HOST-$UNSET.$$.$'}}\n"
        + "  features: [{name: a, enabled: ${FLAG}}]\n  components: {deny: [$LIST]}\n"
        + "---\n"
        + COMPONENT_HEAD.replace("store", "other")
        + "spec: {type: $HOST}\n"
    )
    environment = {"HOST": "h", "RATE": "0.25", "FLAG": "true", "STAGE": "dev", "LIST": "a, b"}
    resources = load_text(tmp_path, text, environment=environment)
    (found,) = resources.configurations
    assert found.name == "c-dev"
    assert (found.tracing.sampling_rate, found.tracing.zipkin_endpoint) == (0.25, "xh-..$")
    assert (found.features, found.components_denied) == ({"a": True}, ("a", "b"))
    assert resources.components[0].metadata[0].value == "a$HOST${HOST}"
    assert resources.components[1].type == "$HOST"
    assert load_text(tmp_path, text.replace("${FLAG}", "true")).configurations[0].name == "c-$STAGE"


def test_http_endpoint(tmp_path: Path) -> None:
    """An HTTPEndpoint in Dapr's form is read completely and shows no secret."""
    text = """\
        apiVersion: dapr.io/v1alpha1
        kind: HTTPEndpoint
        metadata: {name: github}
        spec:
          baseUrl: https://api.example
          headers:
          - name: Authorization
            value: Bearer geheim
          - name: X-Key
            secretKeyRef: {name: key}
          clientTLS:
            privateKey: {value: geheim}
            renegotiation: Never
        auth: {secretStore: local}
        scopes: [orders]
        """
    (found,) = load_text(tmp_path, text).http_endpoints
    assert found == HTTPEndpoint(
        name="github",
        base_url="https://api.example",
        headers=(
            MetadataItem(name="Authorization", value="Bearer geheim"),
            MetadataItem(name="X-Key", secret_key_ref=SecretKeyRef(name="key")),
        ),
        client_tls={"privateKey": {"value": "geheim"}, "renegotiation": "Never"},
        secret_store="local",
        scopes=("orders",),
        origin=found.origin,
    )
    assert "geheim" not in repr(found)


def test_both_versions_of_a_subscription(tmp_path: Path) -> None:
    """v1alpha1 with `route` and v2alpha1 with `routes` come out in one form; the default route is the last rule."""
    text = """\
        apiVersion: dapr.io/v2alpha1
        kind: Subscription
        metadata: {name: two}
        spec:
          pubsubname: pubsub
          topic: orders
          routes:
            rules:
            - {match: event.type == "a", path: /a}
            default: /rest
          metadata: {rawPayload: "true", Retries: 3, retries: 4}
          deadLetterTopic: dead
          bulkSubscribe: {enabled: true, maxMessagesCount: 10, maxAwaitDurationMs: 40}
        scopes: [app1]
        ---
        apiVersion: dapr.io/v1alpha1
        kind: Subscription
        metadata: {name: one}
        spec: {pubsubname: pubsub, topic: orders, route: /orders, bulkSubscribe: {enabled: true}}
        """
    two, one = load_text(tmp_path, text).subscriptions
    assert two == Subscription(
        name="two",
        pubsub_name="pubsub",
        topic="orders",
        rules=(SubscriptionRule(match='event.type == "a"', path="/a"), SubscriptionRule(path="/rest")),
        metadata={"rawPayload": "true", "Retries": "3", "retries": "4"},
        dead_letter_topic="dead",
        bulk_subscribe=BulkSubscribe(enabled=True, max_messages_count=10, max_await_duration_ms=40),
        scopes=("app1",),
        origin=two.origin,
    )
    assert one == Subscription(
        name="one",
        pubsub_name="pubsub",
        topic="orders",
        rules=(SubscriptionRule(path="/orders"),),
        bulk_subscribe=BulkSubscribe(enabled=True),
        origin=one.origin,
    )


def test_resiliency_and_kinds_without_effect_are_kept_as_written(tmp_path: Path) -> None:
    """A Resiliency keeps its policies and targets; an MCPServer is kept with its kind so that a warning can name it."""
    text = """\
        apiVersion: dapr.io/v1alpha1
        kind: Resiliency
        metadata: {name: r}
        spec:
          policies: {timeouts: {general: 5s}, retries: {often: {policy: constant, maxRetries: 3}}}
          targets: {apps: {orders: {timeout: general, retry: often}}}
        scopes: [a]
        ---
        apiVersion: dapr.io/v1alpha1
        kind: MCPServer
        metadata: {name: m}
        spec: {endpoint: {stdio: {command: x}}}
        ---
        apiVersion: dapr.io/v1alpha1
        kind: WorkflowAccessPolicy
        metadata: {name: w}
        spec: {rules: []}
        """
    resources = load_text(tmp_path, text)
    (resiliency,) = resources.resiliencies
    assert resiliency.policies["timeouts"] == {"general": "5s"}
    assert resiliency.targets == {"apps": {"orders": {"timeout": "general", "retry": "often"}}}
    assert resiliency.scopes == ("a",)
    assert [(other.kind, other.name) for other in resources.others] == [
        ("MCPServer", "m"),
        ("WorkflowAccessPolicy", "w"),
    ]
    assert resources.others[0].spec == {"endpoint": {"stdio": {"command": "x"}}}


def test_words_of_daprs_kinds_ignore_case_and_a_configuration_needs_no_name(tmp_path: Path) -> None:
    """`Deny` is deny and `GRPC` is grpc, and a Configuration without a name is read, as in Dapr."""
    text = (
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nspec:\n  secrets: {scopes: [{storeName: a, "
        "defaultAccess: Deny}]}\n  api: {denied: [{name: invoke, version: v1, protocol: GRPC}]}\n"
    )
    found = configuration(tmp_path, text)
    assert (found.name, found.secret_scopes[0].default_allow, found.api_denied[0].protocol) == ("", False, "grpc")


def test_data_that_is_nested_too_deep() -> None:
    """Plain data is bounded like YAML: too deep is an error of its object, and the others are read."""
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ResourceErrors) as caught:
        load_objects([{"kind": "App"}, {"kind": deep}], source="kubernetes")
    assert str(caught.value.errors[0]) == "kubernetes, document 2: is nested more than 100 levels deep"


def test_objects_of_the_kubernetes_api() -> None:
    """Plain data is read like YAML; errors and origins name the source and the number of the object."""
    data = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": "s", "namespace": "shop", "uid": "1"},
        "spec": {"type": "state.x", "metadata": [{"name": "a", "value": True}]},
    }
    resources = load_objects([{"kind": "Pod"}, data], source="kubernetes")
    (found,) = resources.components
    assert isinstance(resources, Resources)
    assert (found.namespace, found.metadata[0].value) == ("shop", "true")
    assert str(found.origin) == "kubernetes, document 2"
