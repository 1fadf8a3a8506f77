"""Which channel reaches which app, kept in step with the App resources.

Step 6a of the request road and last step of the delivery road. A reload builds the new channels, swaps, and drains the
old ones (design §5.11): calls in flight finish on the channel that they began on.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from dapr_shared.channel.base import (
    AppChannel,
    ChannelConfigurationError,
    ChannelProperties,
    HealthProperties,
)
from dapr_shared.resources.model import ChannelProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dapr_shared.channel.watch import AppWatch
    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources import model

DRAIN_GRACE = 60.0
"""Seconds that calls in flight have to finish on a channel that was replaced or removed."""


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """What one app's channel is made from; a channel is kept exactly as long as this stays equal."""

    channel: model.AppChannel
    api_token: str | None = field(default=None, repr=False)
    """The resolved `apiToken`; `None`: the app gets none."""


@dataclass(frozen=True, slots=True)
class ChannelDefaults:
    """Settings of the instance that every channel shares."""

    body_bytes: int = 4 * 1024 * 1024
    """Longest body that a gRPC app is sent (`--max-body-size`); 0 means no limit."""
    waiting: int = 10_000
    """Calls that may wait for a slot of an app with `maxConcurrency`."""


class ChannelTableError(Exception):
    """A reload that was refused, with the problem of each app; nothing has changed."""

    def __init__(self, problems: Mapping[AppRef, str]) -> None:
        super().__init__("; ".join(f"app {ref}: {problem}" for ref, problem in problems.items()))
        self.problems = problems


def build_channel(ref: AppRef, spec: ChannelSpec, defaults: ChannelDefaults) -> AppChannel:
    """The channel of the protocol that the resource names. Nothing is opened.

    The protocols' modules are loaded when an app needs them: gRPC and its messages cost time and memory.
    """
    settings = spec.channel
    check = settings.health_check
    health = None
    if check.enabled:
        health = HealthProperties(check.path, check.interval, check.timeout, check.threshold)
    properties = ChannelProperties(
        protocol=settings.protocol.value,
        address=settings.address,
        port=settings.port,
        max_concurrency=settings.max_concurrency,
        health=health,
    )
    match settings.protocol:
        case ChannelProtocol.HTTP | ChannelProtocol.HTTPS:
            from dapr_shared.channel.http import HttpAppChannel  # noqa: PLC0415

            return HttpAppChannel(ref, properties, api_token=spec.api_token, tls=settings.tls, waiting=defaults.waiting)
        case ChannelProtocol.GRPC | ChannelProtocol.GRPCS:
            from dapr_shared.channel.grpc import GrpcAppChannel  # noqa: PLC0415

            return GrpcAppChannel(
                ref,
                properties,
                api_token=spec.api_token,
                tls=settings.tls,
                body_bytes=defaults.body_bytes,
                waiting=defaults.waiting,
            )
        case ChannelProtocol.H2C:
            from dapr_shared.channel.h2c import H2cAppChannel  # noqa: PLC0415

            return H2cAppChannel(ref, properties, api_token=spec.api_token, waiting=defaults.waiting)


@dataclass(frozen=True, slots=True)
class _Row:
    """One app's open channel."""

    spec: ChannelSpec
    channel: AppChannel
    stack: AsyncExitStack


class ChannelTable:
    """The channels of all apps of an instance. `get` is one dict lookup."""

    def __init__(
        self,
        watch: AppWatch,
        *,
        defaults: ChannelDefaults | None = None,
        grace: float = DRAIN_GRACE,
        build: Callable[[AppRef, ChannelSpec, ChannelDefaults], AppChannel] = build_channel,
    ) -> None:
        """`grace`: seconds for calls in flight on a channel that is replaced or removed."""
        self._watch = watch
        self._defaults = defaults or ChannelDefaults()
        self._grace = grace
        self._build = build
        self._rows: dict[AppRef, _Row] = {}
        self._channels: dict[AppRef, AppChannel] = {}
        self._draining: dict[asyncio.Task[None], _Row] = {}
        self._applying = asyncio.Lock()

    def get(self, ref: AppRef) -> AppChannel | None:
        """The app's channel; `None` for an app that has none."""
        return self._channels.get(ref)

    def channels(self) -> Iterable[AppChannel]:
        """All channels."""
        return self._channels.values()

    async def start(self, stack: AsyncExitStack) -> None:
        """Let the stack close every channel, with no grace; drain the API before."""
        stack.push_async_callback(self._close)

    async def apply(self, wanted: Mapping[AppRef, ChannelSpec]) -> None:
        """Have exactly these channels from now on; a channel whose spec is the same stays as it is.

        A channel that takes another's place is asked for its app's health once before, so that an app that is healthy
        does not refuse calls for the length of a probe. Raises `ChannelTableError`; then nothing has changed.
        """
        async with self._applying:
            changed = {
                ref: spec for ref, spec in wanted.items() if ref not in self._rows or self._rows[ref].spec != spec
            }
            opened = await self._open_all(changed)
            try:
                await self._settle([row.channel for ref, row in opened.items() if ref in self._rows])
            except BaseException:
                await _unwind(opened.values())
                raise
            gone = [row for ref, row in self._rows.items() if ref not in wanted or ref in opened]
            kept = {ref: opened.get(ref) or self._rows[ref] for ref in wanted}
            self._rows = kept
            self._channels = {ref: row.channel for ref, row in kept.items()}
            self._rewatch(gone, opened)
            for row in gone:
                self._drain(row)

    def _rewatch(self, gone: Iterable[_Row], opened: Mapping[AppRef, _Row]) -> None:
        for row in gone:
            row.channel.on_unreachable = _nobody
            if row.channel.ref not in opened:
                self._watch.remove(row.channel.ref)
        for ref, row in opened.items():
            row.channel.on_unreachable = partial(self._watch.suspect, ref)
            self._watch.add(row.channel)

    async def _open_all(self, specs: Mapping[AppRef, ChannelSpec]) -> dict[AppRef, _Row]:
        opened: dict[AppRef, _Row] = {}
        problems: dict[AppRef, str] = {}
        try:
            for ref, spec in specs.items():
                try:
                    opened[ref] = await self._open(ref, spec)
                except ChannelConfigurationError as exc:
                    problems[ref] = str(exc)
        except BaseException:
            await _unwind(opened.values())
            raise
        if problems:
            await _unwind(opened.values())
            raise ChannelTableError(problems)
        return opened

    async def _open(self, ref: AppRef, spec: ChannelSpec) -> _Row:
        channel = self._build(ref, spec, self._defaults)
        async with AsyncExitStack() as stack:
            await channel.start(stack)
            return _Row(spec, channel, stack.pop_all())

    @staticmethod
    async def _settle(channels: Iterable[AppChannel]) -> None:
        async def ask(channel: AppChannel) -> None:
            channel.healthy = await channel.check_health()

        async with asyncio.TaskGroup() as group:
            for channel in channels:
                if channel.properties.health is not None:
                    group.create_task(ask(channel), name=f"first-probe {channel.ref}")

    def _drain(self, row: _Row) -> None:
        async def drain() -> None:
            await row.channel.aclose(self._grace)
            await row.stack.aclose()

        task = asyncio.get_running_loop().create_task(drain(), name=f"drain {row.channel.ref}")
        self._draining[task] = row
        task.add_done_callback(lambda task: self._draining.pop(task, None))

    async def _close(self) -> None:
        async with self._applying:
            draining = dict(self._draining)
            for task in draining:
                task.cancel()
            if draining:
                await asyncio.wait(draining)
            rows = [*draining.values(), *self._rows.values()]
            for row in self._rows.values():
                self._watch.remove(row.channel.ref)
            self._rows, self._channels = {}, {}
            await _unwind(rows)


async def _unwind(rows: Iterable[_Row]) -> None:
    for row in rows:
        await row.stack.aclose()


def _nobody() -> None:
    """Nobody watches a channel that is drained."""
