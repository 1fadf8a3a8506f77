"""The metadata block: what the runtime is to one app.

Step 4 of the request road. Each app sees itself and what it may use, never another app. Facts: reference http-api §11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dapr_shared.contracts.state import StateCapability, StateStore
from dapr_shared.core import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from dapr_shared.blocks.pubsub.subscriptions import SubscriptionStatus
    from dapr_shared.channel.base import ChannelProperties
    from dapr_shared.contracts.registry import Components
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import Caller

MAX_ENTRIES = 256
"""Entries that one app may set."""
MAX_ENTRY_BYTES = 64 * 1024
"""Bytes of key and value together of one entry."""
RUNTIME_VERSION_KEY = "daprRuntimeVersion"


class RegisteredComponent(msgspec.Struct, frozen=True):
    """One component that the app sees."""

    name: str
    type: str
    version: str
    capabilities: Sequence[str]


class Metadata(msgspec.Struct, frozen=True):
    """Everything that the metadata API tells."""

    id: str
    runtime_version: str
    enabled_features: Sequence[str]
    components: Sequence[RegisteredComponent]
    extended: Mapping[str, str]
    subscriptions: Sequence[SubscriptionStatus]
    http_endpoints: Sequence[str]
    resiliencies: Sequence[str]
    app: ChannelProperties | None


class MetadataBlock:
    """Metadata of many apps. What an app sets is kept in memory, as Dapr keeps it, and goes when the app is removed."""

    def __init__(
        self,
        components: Components,
        properties: Callable[[AppRef], ChannelProperties | None],
        *,
        version: str,
        features: Sequence[str] = (),
        http_endpoints: Callable[[AppRef], Sequence[str]] = lambda _: (),
        resiliencies: Callable[[AppRef], Sequence[str]] = lambda _: (),
        subscriptions: Callable[[AppRef], Awaitable[Sequence[SubscriptionStatus]]],
    ) -> None:
        self._components = components
        self._properties = properties
        self._version = version
        self._features = features
        self._http_endpoints = http_endpoints
        self._resiliencies = resiliencies
        self._subscriptions = subscriptions
        self._extended: dict[AppRef, dict[str, str]] = {}

    async def get(self, caller: Caller) -> Metadata:
        """What the caller's app may know."""
        return Metadata(
            id=caller.app_id,
            runtime_version=self._version,
            enabled_features=self._features,
            components=[
                RegisteredComponent(o.name, o.type, o.version, _capabilities(o.component, o.capabilities))
                for o in self._components.visible(caller.ref)
            ],
            extended={**self._extended.get(caller.ref, {}), RUNTIME_VERSION_KEY: self._version},
            subscriptions=await self._subscriptions(caller.ref),
            http_endpoints=self._http_endpoints(caller.ref),
            resiliencies=self._resiliencies(caller.ref),
            app=self._properties(caller.ref),
        )

    def set(self, caller: Caller, key: str, value: str) -> None:
        """Keep one entry for the caller's app. Raises `METADATA_TOO_LARGE` at the bound."""
        entries = self._extended.setdefault(caller.ref, {})
        size = len(key.encode()) + len(value.encode())
        if size > MAX_ENTRY_BYTES:
            detail = f"the entry has {size} bytes, at most {MAX_ENTRY_BYTES} are kept"
            raise errors.METADATA_TOO_LARGE(app=caller.app_id, detail=detail)
        if key not in entries and len(entries) >= MAX_ENTRIES:
            raise errors.METADATA_TOO_LARGE(app=caller.app_id, detail=f"it has {MAX_ENTRIES} entries, its most")
        entries[key] = value

    def forget(self, app: AppRef) -> None:
        """Drop what a removed app has set."""
        self._extended.pop(app, None)


def _capabilities(component: object, capabilities: frozenset[str]) -> list[str]:
    listed = sorted(capabilities, key=_rank)
    if isinstance(component, StateStore) and {StateCapability.ETAG, StateCapability.TRANSACTIONAL} <= capabilities:
        listed.append("ACTOR")  # what Dapr derives: such a store can hold actors
    return listed


def _rank(capability: str) -> tuple[int, str]:
    order = list(StateCapability)
    return (order.index(StateCapability(capability)) if capability in order else len(order), capability)
