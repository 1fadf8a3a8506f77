"""Each event is one log line and one metric; what requests can cause is limited in the log and never in the count."""

from __future__ import annotations

import inspect
import io
from typing import TYPE_CHECKING, Any

import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.observability.events import Events, RepeatLimiter
from dapr_shared.observability.logs import LogOptions, Logs
from dapr_shared.observability.spans import SpanRecord
from tests.support.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIME = "2026-01-01T00:00:00.000000Z"
SHOP = AppRef("shop", "prod")


class Recorder:
    """Events with a log that can be read."""

    def __init__(self) -> None:
        self.stream = io.BytesIO()
        self.clock = FakeClock()
        self.metrics = DaprMetrics()
        self.logs = Logs(LogOptions(), stream=self.stream, clock=FakeClock())
        self.events = Events(self.metrics, self.logs.logger, self.clock)

    def lines(self) -> list[str]:
        """What was written; closes the log."""
        self.logs.close()
        return self.stream.getvalue().decode().splitlines()

    def samples(self, start: str) -> list[str]:
        """The metrics whose names begin so, without that beginning."""
        text = self.metrics.registry.render().decode()
        return [line.removeprefix(start) for line in text.splitlines() if line.startswith(start)]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    made.logs.close()


EVENTS: list[tuple[str, Callable[[Events], None], str, str]] = [
    ("starting", lambda e: e.starting("0.1.0", "standalone", 2), "[info   ] dapr.runtime: starting version=0.1.0 mode=standalone apps=2", "ready 0"),
    (
        "listening",
        lambda e: e.listening("shop", "http", "127.0.0.1:3500"),
        "[info   ] dapr.runtime: listening listener=shop protocol=http address=127.0.0.1:3500",
        'listener_connections{listener="shop",protocol="http"} 0',
    ),
    (
        "tls_loaded",
        lambda e: e.tls_loaded("/etc/tls.crt", days_left=3.14159, again=True),
        "[warning] dapr.runtime: TLS certificate in force certificate=/etc/tls.crt days_left=3.1 reloaded=true",
        'tls_load_total{result="done"} 1',
    ),
    (
        "tls_load_failed",
        lambda e: e.tls_load_failed("no key"),
        '[error  ] dapr.runtime: TLS certificate not reloaded, the former one stays in force problem="no key"',
        'tls_load_total{result="failed"} 1',
    ),
    (
        "tls_trouble",
        lambda e: e.tls_trouble("http", "client_certificate", "10.0.0.1", "certificate has expired"),
        '[warning] dapr.runtime.identity: a client certificate was refused listener=http reason=client_certificate peer=10.0.0.1 problem="certificate has expired"',
        'tls_trouble_total{listener="http",reason="client_certificate"} 1',
    ),
    (
        "span",
        lambda e: e.span(SpanRecord("shop", "/x", "client", "t", "s", "p", "", 0, 2_000_000, {"a": "b"}, "Code(400)")),
        '[info   ] dapr.runtime.trace: span name=/x app_id=shop kind=client trace_id=t span_id=s parent_id=p milliseconds=2.0 error=Code(400) attributes={"a":"b"}',
        'span_total{target="stdout"} 1',
    ),
    (
        "spans_dropped",
        lambda e: e.spans_dropped("otlp-grpc c:1", "export", 3, "refused"),
        '[warning] dapr.runtime.trace: spans dropped target="otlp-grpc c:1" reason=export count=3 problem=refused',
        'span_dropped_total{target="otlp-grpc c:1",reason="export"} 3',
    ),
    ("ready", lambda e: e.ready(0.43219), "[info   ] dapr.runtime: ready seconds=0.432", "ready 1"),
    ("stopping", lambda e: e.stopping("SIGTERM"), "[info   ] dapr.runtime: stopping reason=SIGTERM", "ready 0"),
    (
        "drain_started",
        lambda e: e.drain_started("instance", 3, 5.0),
        "[info   ] dapr.runtime: draining what=instance calls=3 seconds=5.0",
        'drain_total{result="started"} 1',
    ),
    ("drain_done", lambda e: e.drain_done("instance", 0.25), "[info   ] dapr.runtime: drained what=instance seconds=0.25", 'drain_total{result="done"} 1'),
    (
        "drain_timed_out",
        lambda e: e.drain_timed_out("instance", 1),
        "[warning] dapr.runtime: drain timed out, calls were cancelled what=instance calls=1",
        'drain_total{result="timed_out"} 1',
    ),
    (
        "setting_without_effect",
        lambda e: e.setting_without_effect("--enable-mtls", "no mesh in this version"),
        '[warning] dapr.runtime: setting without effect setting=--enable-mtls why="no mesh in this version"',
        'without_effect_total{name="--enable-mtls"} 1',
    ),
    (
        "app_added",
        lambda e: e.app_added(SHOP, channel="http://127.0.0.1:8080"),
        "[info   ] dapr.runtime.apps: app added app_id=shop namespace=prod channel=http://127.0.0.1:8080",
        'app_changes_total{change="added"} 1',
    ),
    (
        "app_changed",
        lambda e: e.app_changed(SHOP, changed="channel"),
        "[info   ] dapr.runtime.apps: app changed app_id=shop namespace=prod changed=channel",
        'app_changes_total{change="changed"} 1',
    ),
    (
        "app_reachable_changed",
        lambda e: e.app_reachable_changed(SHOP, reachable=True),
        "[info   ] dapr.runtime.apps: app is reachable app_id=shop namespace=prod",
        'app_reachable{app_id="shop"} 1',
    ),
    (
        "deliveries_stopped",
        lambda e: e.deliveries_stopped(SHOP),
        "[info   ] dapr.runtime.apps: deliveries stopped by the shutdown API app_id=shop namespace=prod",
        'app_changes_total{change="deliveries_stopped"} 1',
    ),
    (
        "app_process_started",
        lambda e: e.app_process_started("shop", 17),
        "[info   ] dapr.runtime.apps: app process started app_id=shop pid=17",
        'app_processes_total{change="started"} 1',
    ),
    (
        "app_process_failed",
        lambda e: e.app_process_failed("shop", "not found"),
        '[info   ] dapr.runtime.apps: app process cannot start app_id=shop problem="not found"',
        'app_processes_total{change="failed"} 1',
    ),
    (
        "app_process_ended",
        lambda e: e.app_process_ended("shop", -9),
        "[info   ] dapr.runtime.apps: app process ended app_id=shop code=-9",
        'app_processes_total{change="ended"} 1',
    ),
    (
        "listener_failed",
        lambda e: e.listener_failed("[::1]:3500: not there"),
        '[warning] dapr.runtime: listener not opened problem="[::1]:3500: not there"',
        "listener_failures_total 1",
    ),
    (
        "component_warning",
        lambda e: e.component_warning("cart", "state.sqlite/v1", "prod", "unknown name"),
        ("[warning] dapr.runtime.components: component warning component=cart component_type=state.sqlite/v1 "
        'namespace=prod problem="unknown name"'),
        'component_warnings_total{component="cart"} 1',
    ),
    (
        "resource_notice",
        lambda e: e.resource_notice("a.yaml: ignored"),
        '[warning] dapr.runtime.resources: resource notice notice="a.yaml: ignored"',
        "resource_notices_total 1",
    ),
    (
        "app_removed",
        lambda e: e.app_removed(SHOP),
        "[info   ] dapr.runtime.apps: app removed app_id=shop namespace=prod",
        'app_changes_total{change="removed"} 1',
    ),
    (
        "app_health_changed",
        lambda e: e.app_health_changed(SHOP, healthy=False, problem="status 503"),
        '[warning] dapr.runtime.apps: app is not healthy app_id=shop namespace=prod problem="status 503"',
        'app_healthy{app_id="shop"} 0',
    ),
    (
        "component_opened",
        lambda e: e.component_opened("cart", "state.sqlite/v1", "prod", 0.01),
        "[info   ] dapr.runtime.components: component opened component=cart component_type=state.sqlite/v1 namespace=prod seconds=0.01",
        "components_open 1",
    ),
    (
        "component_closed",
        lambda e: e.component_closed("cart", "state.sqlite/v1", "prod", app_id="shop"),
        "[info   ] dapr.runtime.components: component closed component=cart component_type=state.sqlite/v1 namespace=prod app_id=shop",
        "components_open -1",
    ),
    (
        "component_write_failed",
        lambda e: e.component_write_failed("cart", "set", "disk full"),
        '[error  ] dapr.runtime.components: component write failed component=cart operation=set problem="disk full"',
        'component_write_failures_total{component="cart"} 1',
    ),
    (
        "reload_done",
        lambda e: e.reload_done(0.0123, added=1, changed=2, removed=0),
        "[info   ] dapr.runtime.resources: resources reloaded added=1 changed=2 removed=0 seconds=0.012",
        'reload_total{result="done"} 1',
    ),
    (
        "reload_failed",
        lambda e: e.reload_failed("a.yaml: no name"),
        '[error  ] dapr.runtime.resources: reload failed, what failed stays as it was problem="a.yaml: no name"',
        'reload_total{result="failed"} 1',
    ),
    (
        "resource_refused",
        lambda e: e.resource_refused("Component", "a.yaml#2", "no name"),
        '[error  ] dapr.runtime.resources: resource refused kind=Component origin=a.yaml#2 problem="no name"',
        'resource_problems_total{kind="Component"} 1',
    ),
    (
        "resource_mended",
        lambda e: e.resource_mended("Component", "a.yaml#2"),
        "[info   ] dapr.runtime.resources: resource no longer refused kind=Component origin=a.yaml#2",
        'resource_problems_mended_total{kind="Component"} 1',
    ),
    (
        "configuration_awaited",
        lambda e: e.configuration_awaited("no answer"),
        '[warning] dapr.runtime: waiting for the Configuration problem="no answer"',
        "cluster_reachable 0",
    ),
    (
        "cluster_awaited",
        lambda e: e.cluster_awaited("no answer"),
        '[warning] dapr.runtime: waiting for the resources of the cluster problem="no answer"',
        "cluster_reachable 0",
    ),
    (
        "cluster_away",
        lambda e: e.cluster_away("no answer"),
        '[warning] dapr.runtime.resources: the API server does not answer, what is known is served problem="no answer"',
        "cluster_reachable 0",
    ),
    (
        "cluster_back",
        lambda e: e.cluster_back("https://k8s"),
        "[info   ] dapr.runtime.resources: the API server answers server=https://k8s",
        "cluster_reachable 1",
    ),
    (
        "cluster_refused",
        lambda e: e.cluster_refused("pods", "shop", "no", known=False),
        "[error  ] dapr.runtime.resources: a kind of the cluster cannot be read, the others are served resource=pods namespace=shop problem=no",
        'cluster_kinds_total{resource="pods",state="refused"} 1',
    ),
    (
        "cluster_refused",
        lambda e: e.cluster_refused("pods", "shop", "no", known=True),
        "[error  ] dapr.runtime.resources: a kind of the cluster cannot be read any further, what is known of it is served resource=pods namespace=shop problem=no",
        'cluster_kinds_total{resource="pods",state="refused"} 1',
    ),
    (
        "cluster_written",
        lambda e: e.cluster_written("lease"),
        "[info   ] dapr.runtime.resources: written to the cluster again object=lease",
        'cluster_write_failing{object="lease"} 0',
    ),
    (
        "status_holder",
        lambda e: e.status_holder(held=True),
        "[info   ] dapr.runtime.resources: this instance writes the status of apps",
        "status_holder 1",
    ),
    (
        "status_of_holder_alone",
        lambda e: e.status_of_holder_alone("leases is forbidden"),
        '[warning] dapr.runtime.resources: the status of apps says what this instance knows alone problem="leases is forbidden"',
        'cluster_kinds_total{resource="leases.coordination.k8s.io",state="refused"} 1',
    ),
    (
        "status_part_cut",
        lambda e: e.status_part_cut(12, 5000),
        '[warning] dapr.runtime.resources: the status has no room for what this instance knows of all apps told="4988 apps and 12 more"',
        "status_left_out 12",
    ),
    (
        "cluster_write_failed",
        lambda e: e.cluster_write_failed("lease", "no"),
        "[warning] dapr.runtime.resources: not written to the cluster object=lease problem=no",
        'cluster_write_failures_total{object="lease"} 1',
    ),
    (
        "cluster_kind_absent",
        lambda e: e.cluster_kind_absent("apps"),
        "[warning] dapr.runtime.resources: a kind is not installed in the cluster: there are none of these resource=apps",
        'cluster_kinds_total{resource="apps",state="absent"} 1',
    ),
    (
        "cluster_followed",
        lambda e: e.cluster_followed("pods", "shop"),
        "[info   ] dapr.runtime.resources: a kind of the cluster can be read again resource=pods namespace=shop",
        'cluster_kinds_total{resource="pods",state="followed"} 1',
    ),
    (
        "app_without_token",
        lambda e: e.app_without_token("a", "DAPR_API_TOKEN"),
        '[warning] dapr.runtime.apps: no token proves this app app_id=a problem="DAPR_API_TOKEN is not set"',
        "resource_notices_total 1",
    ),
    (
        "kind_without_effect",
        lambda e: e.kind_without_effect("WorkflowAccessPolicy", "w.yaml"),
        "[warning] dapr.runtime.resources: resource kind without effect kind=WorkflowAccessPolicy origin=w.yaml",
        'without_effect_total{name="WorkflowAccessPolicy"} 1',
    ),
    (
        "identity_refused",
        lambda e: e.identity_refused("unknown_token", "http", "GetState", "127.0.0.1:5"),
        "[warning] dapr.runtime.identity: identity refused reason=unknown_token protocol=http operation=GetState peer=127.0.0.1:5",
        'identity_refused_total{reason="unknown_token"} 1',
    ),
    (
        "service_account_disputed",
        lambda e: e.service_account_disputed("prod:till", (SHOP, AppRef("back", "prod"))),
        '[warning] dapr.runtime.identity: service account of several apps service_account=prod:till apps="shop.prod back.prod"',
        'identity_conflicts_total{kind="service_account"} 1',
    ),
    (
        "token_review_failed",
        lambda e: e.token_review_failed("the API server is away"),
        '[warning] dapr.runtime.identity: service account token not verified problem="the API server is away"',
        'token_reviews_total{outcome="unavailable"} 1',
    ),
    (
        "access_refused",
        lambda e: e.access_refused(SHOP, "secret_scope", "GetSecret", "vault"),
        "[warning] dapr.runtime.identity: access refused app_id=shop namespace=prod reason=secret_scope operation=GetSecret target=vault",
        'access_refused_total{app_id="shop",reason="secret_scope"} 1',
    ),
    (
        "operator_acted",
        lambda e: e.operator_acted(SHOP, "publish", "pubsub/news"),
        "[warning] dapr.runtime.identity: operator acts as app app_id=shop namespace=prod action=publish target=pubsub/news",
        'operator_actions_total{app_id="shop",action="publish"} 1',
    ),
    (
        "invocation_failed",
        lambda e: e.invocation_failed(SHOP, "back", "unreachable", "connection refused"),
        '[warning] dapr.runtime.invoke: invocation failed app_id=shop namespace=prod target=back reason=unreachable problem="connection refused"',
        'invocation_failures_total{app_id="shop",reason="unreachable"} 1',
    ),
    (
        "peer_call_refused",
        lambda e: e.peer_call_refused("back", "not_served", "shop", "no such app"),
        '[warning] dapr.runtime.invoke: call from another instance refused app_id=back reason=not_served claimed_caller=shop problem="no such app"',
        'peer_calls_refused_total{reason="not_served"} 1',
    ),
    (
        "name_resolution_missing",
        lambda e: e.name_resolution_missing("mdns is not there"),
        '[warning] dapr.runtime: no name resolution problem="mdns is not there"',
        'without_effect_total{name="nameResolution"} 1',
    ),
    ("subscriptions_unknown", lambda e: e.subscriptions_unknown(SHOP, "refused"), "[warning] dapr.runtime.pubsub: subscriptions not read app_id=shop namespace=prod problem=refused", 'subscription_problems_total{app_id="shop",problem="unknown"} 1'),
    ("subscription_started", lambda e: e.subscription_started(SHOP, "ps", "t"), "[info   ] dapr.runtime.pubsub: subscription started app_id=shop namespace=prod pubsub=ps topic=t", 'subscription_changes_total{app_id="shop",change="started"} 1'),
    ("subscription_paused", lambda e: e.subscription_paused(SHOP, "ps", "t", "away"), "[info   ] dapr.runtime.pubsub: subscription paused app_id=shop namespace=prod pubsub=ps topic=t reason=away", 'subscription_changes_total{app_id="shop",change="paused"} 1'),
    ("subscription_resumed", lambda e: e.subscription_resumed(SHOP, "ps", "t"), "[info   ] dapr.runtime.pubsub: subscription resumed app_id=shop namespace=prod pubsub=ps topic=t", 'subscription_changes_total{app_id="shop",change="resumed"} 1'),
    ("subscription_stopped", lambda e: e.subscription_stopped(SHOP, "ps", "t"), "[info   ] dapr.runtime.pubsub: subscription stopped app_id=shop namespace=prod pubsub=ps topic=t", 'subscription_changes_total{app_id="shop",change="stopped"} 1'),
    ("subscription_failed", lambda e: e.subscription_failed(SHOP, "ps", "t", "gone"), "[warning] dapr.runtime.pubsub: subscription failed app_id=shop namespace=prod pubsub=ps topic=t problem=gone", 'subscription_problems_total{app_id="shop",problem="failed"} 1'),
    ("delivery_failed", lambda e: e.delivery_failed(SHOP, "ps", "t", "500"), "[warning] dapr.runtime.pubsub: delivery failed app_id=shop namespace=prod pubsub=ps topic=t problem=500", 'subscription_problems_total{app_id="shop",problem="delivery"} 1'),
    ("memory_failed", lambda e: e.memory_failed("f.json", "full"), "[error  ] dapr.runtime.pubsub: subscriptions not kept file=f.json problem=full", 'subscription_problems_total{problem="memory"} 1'),
    ("message_dropped", lambda e: e.message_dropped(SHOP, "ps", "t", "expired"), "[warning] dapr.runtime.pubsub: message dropped app_id=shop namespace=prod pubsub=ps topic=t problem=expired", 'subscription_problems_total{app_id="shop",problem="dropped"} 1'),
    ("bindings_unknown", lambda e: e.bindings_unknown(SHOP, "refused"), "[warning] dapr.runtime.bindings: input bindings not read app_id=shop namespace=prod problem=refused", 'binding_problems_total{app_id="shop",problem="unknown"} 1'),
    ("binding_started", lambda e: e.binding_started(SHOP, "b"), "[info   ] dapr.runtime.bindings: input binding started app_id=shop namespace=prod component=b", 'binding_changes_total{app_id="shop",change="started"} 1'),
    ("binding_unwanted", lambda e: e.binding_unwanted(SHOP, "b"), "[info   ] dapr.runtime.bindings: input binding not wanted by the app app_id=shop namespace=prod component=b", 'binding_changes_total{app_id="shop",change="unwanted"} 1'),
    ("binding_paused", lambda e: e.binding_paused(SHOP, "b", "away"), "[info   ] dapr.runtime.bindings: input binding paused app_id=shop namespace=prod component=b reason=away", 'binding_changes_total{app_id="shop",change="paused"} 1'),
    ("binding_resumed", lambda e: e.binding_resumed(SHOP, "b"), "[info   ] dapr.runtime.bindings: input binding resumed app_id=shop namespace=prod component=b", 'binding_changes_total{app_id="shop",change="resumed"} 1'),
    ("binding_stopped", lambda e: e.binding_stopped(SHOP, "b"), "[info   ] dapr.runtime.bindings: input binding stopped app_id=shop namespace=prod component=b", 'binding_changes_total{app_id="shop",change="stopped"} 1'),
    ("binding_failed", lambda e: e.binding_failed(SHOP, "b", "gone"), "[warning] dapr.runtime.bindings: input binding failed app_id=shop namespace=prod component=b problem=gone", 'binding_problems_total{app_id="shop",problem="failed"} 1'),
    ("binding_event_failed", lambda e: e.binding_event_failed(SHOP, "b", "500"), "[warning] dapr.runtime.bindings: event not accepted app_id=shop namespace=prod component=b problem=500", 'binding_problems_total{app_id="shop",problem="event"} 1'),
    ("binding_output_failed", lambda e: e.binding_output_failed(SHOP, "b", "store", "full"), "[warning] dapr.runtime.bindings: answer to an event not carried out app_id=shop namespace=prod component=b target=store problem=full", 'binding_problems_total{app_id="shop",problem="output"} 1'),
    ("configuration_failed", lambda e: e.configuration_failed(SHOP, "c", "gone"), "[warning] dapr.runtime.configuration: configuration subscription failed app_id=shop namespace=prod component=c problem=gone", 'configuration_problems_total{app_id="shop",problem="failed"} 1'),
    ("configuration_not_delivered", lambda e: e.configuration_not_delivered(SHOP, "c", "404"), "[warning] dapr.runtime.configuration: configuration change not accepted app_id=shop namespace=prod component=c problem=404", 'configuration_problems_total{app_id="shop",problem="delivery"} 1'),
    ("configuration_overflow", lambda e: e.configuration_overflow(SHOP, "c", 5), "[warning] dapr.runtime.configuration: configuration changes let go app_id=shop namespace=prod component=c limit=5", 'configuration_problems_total{app_id="shop",problem="overflow"} 1'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("raise_event", "line", "sample"), [event[1:] for event in EVENTS], ids=[event[0] for event in EVENTS]
)
def test_an_event_is_one_line_and_one_metric(
    recorder: Recorder, raise_event: Callable[[Events], None], line: str, sample: str
) -> None:
    """Every event writes exactly its line and counts in its metric."""
    raise_event(recorder.events)
    assert recorder.lines() == [f"{TIME} {line}"]
    assert sample in recorder.samples("dapr_shared_")


def test_every_event_is_tested() -> None:
    """No event exists that the tests here do not know."""
    public = {name for name, _ in inspect.getmembers(Events, inspect.isfunction) if not name.startswith("_")}
    assert public == {event[0] for event in EVENTS} | {"component_failed", "defect"}


@pytest.mark.parametrize(("ignored", "level"), [(False, "error  "), (True, "warning")])
def test_component_failed(recorder: Recorder, *, ignored: bool, level: str) -> None:
    """A component that fails is an error, or a warning where its resource says to go on."""
    recorder.events.component_failed("cart", "state.redis/v1", "prod", "init", "no answer", ignored=ignored)
    (line,) = recorder.lines()
    assert line.startswith(f"{TIME} [{level}] dapr.runtime.components: component failed component=cart ")
    assert line.endswith(f'reason=init problem="no answer" ignored={str(ignored).lower()}')
    assert recorder.samples("dapr_runtime_component_init_fail_total") == [
        '{component="state.redis/v1",reason="init",componentName="cart"} 1'
    ]


def test_a_defect_is_told_with_its_traceback(recorder: Recorder) -> None:
    """An exception that nothing expected is an error with its traceback, told once a second and always counted."""
    for _ in range(3):
        recorder.events.defect("api.http", KeyError("x"), trace="4bf9")
    assert recorder.lines() == [
        f"{TIME} [error  ] dapr.runtime: defect where=api.http trace=4bf9",
        "    | KeyError: 'x'",
    ]
    assert recorder.samples("dapr_shared_defects_total") == ['{where="api.http"} 3']


def test_refusals_are_all_counted_and_told_once_a_second(recorder: Recorder) -> None:
    """A flood of refused requests does not flood the log; the next line says how many were held back."""
    for _ in range(1000):
        recorder.events.identity_refused("no_evidence", "http", "GetState", "10.0.0.1")
    recorder.events.identity_refused("unknown_token", "http", "GetState", "10.0.0.1")
    recorder.clock.advance(1)
    recorder.events.identity_refused("no_evidence", "http", "SaveState", "10.0.0.2")
    start = f"{TIME} [warning] dapr.runtime.identity: identity refused reason="
    assert recorder.lines() == [
        f"{start}no_evidence protocol=http operation=GetState peer=10.0.0.1",
        f"{start}unknown_token protocol=http operation=GetState peer=10.0.0.1",
        f"{start}no_evidence protocol=http operation=SaveState peer=10.0.0.2 held_back=999",
    ]
    assert recorder.samples("dapr_shared_identity_refused_total") == [
        '{reason="no_evidence"} 1001',
        '{reason="unknown_token"} 1',
    ]


def test_what_has_no_effect_is_told_once(recorder: Recorder) -> None:
    """The same setting or kind without effect is written once, however often it comes."""
    for _ in range(3):
        recorder.events.setting_without_effect("--profile-port")
        recorder.events.kind_without_effect("MCPServer")
    assert len(recorder.lines()) == 2
    assert recorder.samples("dapr_shared_without_effect_total") == ['{name="--profile-port"} 3', '{name="MCPServer"} 3']


def test_a_removed_app_is_forgotten(recorder: Recorder) -> None:
    """The metrics of an app go with it, and the number of apps is right."""
    recorder.events.app_added(SHOP)
    recorder.events.app_added(AppRef("other"))
    recorder.events.app_health_changed(SHOP, healthy=True)
    recorder.events.app_removed(SHOP)
    assert recorder.samples("dapr_shared_apps") == [" 1"]
    assert recorder.samples("dapr_shared_app_healthy") == []


def test_an_event_cannot_be_forged_by_a_peer(recorder: Recorder) -> None:
    """What a peer chooses stays inside the line of its event."""
    forged = f"x\n{TIME} [info   ] dapr.runtime: ready seconds=0"
    recorder.events.identity_refused("no_evidence", "http", forged, "peer")
    recorder.events.invocation_failed(SHOP, forged, "unreachable", forged)
    assert len(recorder.lines()) == 2


def test_the_limiter_keeps_a_bounded_memory() -> None:
    """Callers that make up keys share one place past the bound; old ones make room."""
    clock = FakeClock()
    limiter = RepeatLimiter(clock)
    shown = [limiter.held_back("event", str(number)) for number in range(1500)]
    assert shown.count(0) == 1001
    assert len(limiter._seen) <= 1001
    clock.advance(1)
    assert limiter.held_back("event", "new") == 0
    assert len(limiter._seen) < 10
    assert limiter.held_back("event", "new") is None


def test_events_take_no_secrets() -> None:
    """No event has a parameter for a token, a secret, a header or a payload."""
    forbidden = {"token", "secret", "headers", "body", "payload", "value", "data", "metadata"}
    for name, method in inspect.getmembers(Events, inspect.isfunction):
        parameters: Any = inspect.signature(method).parameters
        assert not forbidden & set(parameters), name
