"""The fixed parts of an instance, put together once: registries, channels, blocks, front doors.

What changes with the resources (apps, components, channels, rules) is put into these parts by `runtime/reload.py`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import dapr_shared
from dapr_shared.api.grpc.bindings import BindingsRpc
from dapr_shared.api.grpc.configuration import ConfigurationRpc
from dapr_shared.api.grpc.frontdoor import GrpcFrontDoor
from dapr_shared.api.grpc.invoke import InvokeRpc, ProxyRpc
from dapr_shared.api.grpc.lock import LockRpc
from dapr_shared.api.grpc.pubsub import PubSubRpc
from dapr_shared.api.grpc.secrets import SecretsRpc
from dapr_shared.api.grpc.service_invocation import PeerFrontDoor
from dapr_shared.api.grpc.state import StateRpc
from dapr_shared.api.grpc.system import SystemRpc
from dapr_shared.api.grpc.topic_stream import TopicStreamRpc
from dapr_shared.api.http.absent import absent_routes
from dapr_shared.api.http.bindings import BindingsApi
from dapr_shared.api.http.configuration import ConfigurationApi
from dapr_shared.api.http.frontdoor import HttpFrontDoor, PublicFrontDoor
from dapr_shared.api.http.health import HealthApi
from dapr_shared.api.http.invoke import InvokeApi
from dapr_shared.api.http.lock import LockApi
from dapr_shared.api.http.pubsub import PubSubApi
from dapr_shared.api.http.secrets import SecretsApi
from dapr_shared.api.http.state import StateApi
from dapr_shared.api.http.system import SystemApi
from dapr_shared.api.observed import Observed
from dapr_shared.api.pipeline import Pipeline
from dapr_shared.blocks.bindings.delivery import BindingDeliveries
from dapr_shared.blocks.bindings.manager import InputBindings
from dapr_shared.blocks.bindings.output import BindingsBlock
from dapr_shared.blocks.configuration.block import ConfigurationBlock
from dapr_shared.blocks.configuration.delivery import ConfigurationDelivery
from dapr_shared.blocks.health import HealthBlock
from dapr_shared.blocks.invoke import InvokeBlock, normalize_method
from dapr_shared.blocks.invoke_peers import PeerCalls
from dapr_shared.blocks.invoke_received import ReceivedCalls
from dapr_shared.blocks.lock import LockBlock
from dapr_shared.blocks.metadata import MetadataBlock
from dapr_shared.blocks.presence import Presences
from dapr_shared.blocks.pubsub.delivery import TopicDeliveries
from dapr_shared.blocks.pubsub.manager import SubscriptionManager
from dapr_shared.blocks.pubsub.publish import PublishBlock
from dapr_shared.blocks.pubsub.streaming import StreamingBlock
from dapr_shared.blocks.pubsub.topics import InternalTopics
from dapr_shared.blocks.secrets import SecretsBlock
from dapr_shared.blocks.shutdown import ShutdownBlock
from dapr_shared.blocks.state.block import StateBlock
from dapr_shared.blocks.state.outbox import Outbox
from dapr_shared.blocks.state.outbox_relay import OutboxRelays
from dapr_shared.channel.external import ExternalConnections
from dapr_shared.channel.table import ChannelDefaults, ChannelTable
from dapr_shared.channel.watch import AppWatch
from dapr_shared.components.catalog import Catalog
from dapr_shared.components.pluggable.sockets import pluggable_row
from dapr_shared.components.registry import ComponentRegistry
from dapr_shared.core.clock import SystemClock
from dapr_shared.identity.apps import AppRegistry
from dapr_shared.identity.caller import Caller, Evidence
from dapr_shared.observability.access_log import AccessLog
from dapr_shared.runtime.app_logs import AppLogs, access_log_options
from dapr_shared.runtime.components import ComponentLoader, tell_problem
from dapr_shared.runtime.embedded import state_directory
from dapr_shared.runtime.listeners import FrontListeners
from dapr_shared.runtime.observer import AppObserver
from dapr_shared.runtime.peers import ServedApps, make_peers
from dapr_shared.runtime.remembered import RememberedConfiguration, RememberedSubscriptions
from dapr_shared.runtime.rules import Rules, SecretPolicyOfRules
from dapr_shared.runtime.targets import ExternalTargets
from dapr_shared.runtime.tls import FrontTls, front_tls
from dapr_shared.runtime.tracing import TracingOfApps
from dapr_shared.security.limits import CallLimits
from dapr_shared.wire.grpc.engines import engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from dapr_shared.channel.base import ChannelProperties
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import RegisteredApp
    from dapr_shared.mesh.peers import Peers
    from dapr_shared.observability.events import Events
    from dapr_shared.observability.logs import Logs
    from dapr_shared.resources.model import Configuration
    from dapr_shared.runtime.cluster import ClusterAccess
    from dapr_shared.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """What the rest of the runtime needs to reach."""

    apps: AppRegistry
    rules: Rules
    limits: CallLimits
    registry: ComponentRegistry
    loader: ComponentLoader
    watch: AppWatch
    channels: ChannelTable
    connections: ExternalConnections
    targets: ExternalTargets
    peers: Peers | None
    health: HealthBlock
    metadata: MetadataBlock
    subscriptions: SubscriptionManager
    outbox: OutboxRelays
    presences: Presences
    inputs: InputBindings
    configuration: ConfigurationBlock
    http: HttpFrontDoor
    grpc: GrpcFrontDoor
    public: PublicFrontDoor
    listeners: FrontListeners
    tls: FrontTls | None
    tracing: TracingOfApps
    app_logs: AppLogs
    cluster: ClusterAccess | None = None

    @property
    def asks_for_certificates(self) -> bool:
        """Whether clients are asked for certificates, so that these can prove apps."""
        return self.tls is not None and self.tls.served.files.client_ca is not None

    async def start(self, stack: AsyncExitStack) -> None:
        """Put what is open on the stack; unwinding closes in the order: channels, external, watch, components."""
        if self.cluster is not None:
            await self.cluster.start(stack)
        stack.push_async_callback(self.registry.close)
        await self.watch.start(stack)
        await self.connections.start(stack)
        if self.peers is not None:
            await self.peers.start(stack)
        await self.channels.start(stack)

    async def close_deliveries(self, grace: float) -> None:
        """Bring nothing more to apps; what is in flight may take `grace` seconds. Twice does no harm."""
        await self.configuration.aclose()
        await asyncio.gather(self.subscriptions.close(grace), self.inputs.close(grace))
        await self.presences.close()


def assemble(
    settings: Settings,
    configuration: Configuration | None,
    events: Events,
    logs: Logs,
    *,
    single: RegisteredApp | None,
    api_token: str | None,
    stop: Callable[[bool], None],
) -> Parts:
    """Make all parts; nothing is opened yet.

    Raises `CatalogError`, `SettingsError` for TLS files that do not fit and for a cluster that cannot be found, `TracingConfigurationError`, `ValueError` for
    an unknown gRPC engine.
    """
    metrics = events.metrics
    cluster = _cluster(settings, events)
    apps = AppRegistry(
        single=single,
        api_token=api_token,
        service_accounts=cluster.service_accounts if cluster else None,
        addresses=cluster.addresses if cluster else None,
    )
    health = HealthBlock(app_id=single.ref.app_id if single else None)
    body_limit = max(settings.max_body_size, 0)
    clock = SystemClock()
    registry = ComponentRegistry(
        Catalog(pluggable=pluggable_row),
        single_app=single.ref if single else None,
        on_problem=partial(tell_problem, events),
        private=state_directory(settings.data_dir),
    )
    tracing = TracingOfApps(configuration, os.environ, events)
    internal = InternalTopics()
    deliveries = TopicDeliveries(
        metrics, events, clock, timeout=settings.app_delivery_timeout, spans=tracing.table, internal=internal
    )
    remembered = RememberedSubscriptions(state_directory(settings.data_dir) / "subscriptions", events)
    streaming = StreamingBlock(registry, deliveries)
    subscriptions = SubscriptionManager(registry, deliveries, streaming, remembered, events, clock)
    metrics.read_subscriptions(subscriptions.count)
    presences = Presences()
    watch = AppWatch(AppObserver(events, health, subscriptions, presences))
    channels = ChannelTable(watch, defaults=ChannelDefaults(body_bytes=body_limit))
    connections = ExternalConnections()
    targets = ExternalTargets(connections, multi_app=single is None, allowed_hosts=settings.allow_external_urls)
    rules = Rules(multi_app=single is None)
    loader = ComponentLoader(
        registry,
        events,
        configuration.components_denied if configuration else (),
        cluster_secret=cluster.secret if cluster else None,
        built_in_store=single.ref if single and cluster and not settings.disable_builtin_k8s_secret_store else None,
    )
    limits = CallLimits(settings.max_calls_per_app or sys.maxsize)
    metrics.read_calls_in_flight(lambda: {ref.app_id: count for ref, count in limits.in_flight.items()})
    pipeline = Pipeline(apps, rules, limits, events)
    publish = PublishBlock(registry, metrics, clock, internal)
    outbox = OutboxRelays(registry, publish, events, internal)
    state = StateBlock(registry, metrics, Outbox(publish, outbox, clock))
    locks = LockBlock(registry)
    output = BindingsBlock(registry, metrics)
    brought = BindingDeliveries(
        output, state, apps.answered, metrics, events, timeout=settings.app_delivery_timeout, spans=tracing.table
    )
    inputs = InputBindings(registry, presences, brought, events)
    told = ConfigurationDelivery(events, timeout=settings.app_delivery_timeout)
    configuration_block = ConfigurationBlock(
        registry,
        presences,
        told,
        RememberedConfiguration(state_directory(settings.data_dir) / "configuration", events),
        metrics,
        events,
    )
    secrets = SecretsBlock(registry, SecretPolicyOfRules(rules), metrics, events)
    peers = make_peers(settings, configuration, events, body_limit=body_limit)
    invoke = InvokeBlock(
        channels,
        targets,
        rules,
        metrics,
        events,
        serves=lambda ref: apps.get(ref) is not None,
        spans=tracing.table,
        peers=PeerCalls(peers, metrics, events) if peers else None,
    )
    metadata = MetadataBlock(
        registry,
        _properties(channels),
        version=dapr_shared.__version__,
        features=_features(configuration),
        http_endpoints=targets.names,
        subscriptions=subscriptions.status,
    )
    shutdown = ShutdownBlock(
        single_app=single is not None, stop=stop, stop_deliveries=_stop_deliveries(subscriptions, presences)
    )
    caller = Caller(single, (Evidence.SINGLE_APP,)) if single else None
    system = SystemApi(metadata, shutdown, public_caller=(lambda: caller) if caller else None)
    routes = [
        *StateApi(state).routes(),
        *PubSubApi(publish).routes(),
        *SecretsApi(secrets).routes(),
        *BindingsApi(output).routes(),
        *ConfigurationApi(configuration_block).routes(),
        *LockApi(locks).routes(),
        *HealthApi(health).routes(),
        *system.routes(),
    ]
    routes += absent_routes(frozenset(route.api for route in routes))
    access_log = AccessLog(access_log_options(settings, configuration), logs.logger)
    observed = Observed(metrics, tracing.tracing, access_log, events, tracing.table)
    http = HttpFrontDoor(routes, InvokeApi(invoke), pipeline, observed, body_limit=body_limit)
    methods = [
        *StateRpc(state).methods(),
        *PubSubRpc(publish).methods(),
        *SecretsRpc(secrets).methods(),
        *BindingsRpc(output).methods(),
        *ConfigurationRpc(configuration_block).methods(),
        *LockRpc(locks).methods(),
        *SystemRpc(metadata, shutdown).methods(),
        *InvokeRpc(invoke, body_limit=body_limit).methods(),
    ]
    grpc = GrpcFrontDoor(
        methods,
        [*TopicStreamRpc(streaming).streams(), *ConfigurationRpc(configuration_block).streams()],
        ProxyRpc(invoke),
        pipeline,
        observed,
    )
    grpc_engine = engine(settings.grpc_engine, events.defect)
    tls = front_tls(settings, events)
    return Parts(
        apps=apps,
        rules=rules,
        limits=limits,
        registry=registry,
        loader=loader,
        watch=watch,
        channels=channels,
        connections=connections,
        targets=targets,
        peers=peers,
        health=health,
        metadata=metadata,
        subscriptions=subscriptions,
        outbox=outbox,
        presences=presences,
        inputs=inputs,
        configuration=configuration_block,
        http=http,
        grpc=grpc,
        public=PublicFrontDoor([*routes, *HealthApi(health).probes()], body_limit=body_limit),
        listeners=FrontListeners(
            settings,
            http,
            grpc,
            grpc_engine,
            events,
            tls,
            _peer_door(apps, channels, rules, limits, observed, body_limit),
        ),
        tls=tls,
        tracing=tracing,
        app_logs=AppLogs(settings, access_log, logs),
        cluster=cluster,
    )


def _cluster(settings: Settings, events: Events) -> ClusterAccess | None:
    """The way to the API server in cluster mode. Raises `SettingsError` where there is none."""
    if not settings.in_cluster:
        return None
    from dapr_shared.runtime.cluster import cluster_access  # noqa: PLC0415 - 8 MiB, for clusters alone

    return cluster_access(settings, events)


def _peer_door(
    apps: AppRegistry, channels: ChannelTable, rules: Rules, limits: CallLimits, observed: Observed, body_limit: int
) -> PeerFrontDoor:
    """What other instances find at the internal port."""
    received = ReceivedCalls(
        ServedApps(apps),
        channels,
        rules,
        CallLimits(limits.per_app),
        observed.metrics,
        observed.events,
        spans=observed.spans,
        normalize=normalize_method,
    )
    return PeerFrontDoor(received, observed, body_limit=body_limit)


def _stop_deliveries(subscriptions: SubscriptionManager, presences: Presences) -> Callable[[AppRef], None]:
    def stop(ref: AppRef) -> None:
        subscriptions.stop_deliveries(ref)
        presences.stop_deliveries(ref)

    return stop


def _properties(channels: ChannelTable) -> Callable[[AppRef], ChannelProperties | None]:
    def properties(ref: AppRef) -> ChannelProperties | None:
        channel = channels.get(ref)
        return channel.properties if channel else None

    return properties


def _features(configuration: Configuration | None) -> list[str]:
    given = configuration.features if configuration else dict[str, bool]()
    known = {"HotReload": True}
    return sorted(name for name, enabled in {**known, **given}.items() if enabled)
