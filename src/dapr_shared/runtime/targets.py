"""What apps may invoke that is not an app of this instance: HTTPEndpoints, and absolute URLs where allowed.

Assembly of the invoke block. Facts: reference http-api §3, resources §6; design §5.6: absolute URLs are off on a
multi-app instance unless allowed by name, and never carry app tokens.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

from dapr_shared.channel.base import ChannelConfigurationError
from dapr_shared.channel.external import HttpTarget
from dapr_shared.channel.tls import endpoint_context
from dapr_shared.core import errors
from dapr_shared.resources.model import HTTPEndpoint, MetadataItem, SecretKeyRef
from dapr_shared.resources.values import ReadSecret, UnresolvedError, resolve, resolve_item
from dapr_shared.runtime.apps import AppsError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from dapr_shared.channel.external import ExternalConnections
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import Caller

_URL_TARGETS = 256
"""Absolute URLs that are kept ready; a caller can make up any number."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An HTTPEndpoint, ready to be called."""

    resource: HTTPEndpoint
    target: HttpTarget


Targets = Mapping[tuple[str, str], Sequence[Endpoint]]
"""By namespace and name; several of one name are for different apps."""


class EndpointFailure(NamedTuple):
    """An HTTPEndpoint that cannot be called."""

    resource: HTTPEndpoint
    problem: str
    kept: bool
    """Whether its former version is called."""


class TriedTargets(NamedTuple):
    """What could be made."""

    made: Targets
    failures: Sequence[EndpointFailure]


class ExternalTargets:
    """Answers for `blocks.invoke`."""

    def __init__(self, connections: ExternalConnections, *, multi_app: bool, allowed_hosts: Sequence[str]) -> None:
        self._connections = connections
        self._multi_app = multi_app
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._endpoints: Targets = {}
        self._urls: dict[str, HttpTarget] = {}

    def resolve(self, caller: Caller, target: str) -> HttpTarget | None:
        """The target, `None` when there is none of that name. Raises `INVOKE_DENIED` for a URL that is not allowed."""
        if "://" in target:
            return self._url(target)
        same_name = self._endpoints.get((caller.namespace, target), ())
        return next((one.target for one in same_name if _in_scope(one.resource, caller.app_id)), None)

    def names(self, ref: AppRef) -> list[str]:
        """The HTTPEndpoints that an app sees."""
        return [
            endpoint.resource.name
            for (namespace, _), same_name in self._endpoints.items()
            for endpoint in same_name
            if namespace == ref.namespace and _in_scope(endpoint.resource, ref.app_id)
        ]

    async def build(self, resources: Sequence[HTTPEndpoint], reader: Callable[[str], ReadSecret]) -> Targets:
        """Make the targets of these resources. Raises `AppsError` naming file and field."""
        tried = await self.try_build(resources, reader)
        if tried.failures:
            raise AppsError([f"{one.origin}: HTTPEndpoint {one.name}: {problem}" for one, problem, _ in tried.failures])
        return tried.made

    async def try_build(self, resources: Sequence[HTTPEndpoint], reader: Callable[[str], ReadSecret]) -> TriedTargets:
        """Make the targets of these resources; one that cannot be made stays as it was."""
        made: dict[tuple[str, str], list[Endpoint]] = {}
        failures: list[EndpointFailure] = []
        for resource in resources:
            key = resource.namespace, resource.name
            try:
                endpoint = Endpoint(resource, await self._target(resource, reader))
            except (ChannelConfigurationError, UnresolvedError, ValueError) as error:
                former = (one for one in self._endpoints.get(key, ()) if one.resource.scopes == resource.scopes)
                endpoint = next(former, None)
                failures.append(EndpointFailure(resource, str(error), endpoint is not None))
            if endpoint is not None:
                made.setdefault(key, []).append(endpoint)
        return TriedTargets(made, failures)

    def adopt(self, made: Targets) -> None:
        """Use what `build` made from now on."""
        self._endpoints = made

    async def _target(self, resource: HTTPEndpoint, reader: Callable[[str], ReadSecret]) -> HttpTarget:
        secret = reader(resource.namespace)
        headers = await resolve(resource.headers, env=os.environ, secret=secret, secret_store=resource.secret_store)
        context: ssl.SSLContext | None = None
        if resource.client_tls:
            pem = [
                await resolve_item(
                    _tls_item(name, resource.client_tls.get(name)),
                    env=os.environ,
                    secret=secret,
                    secret_store=resource.secret_store,
                )
                for name in ("rootCA", "certificate", "privateKey")
            ]
            context = await asyncio.to_thread(endpoint_context, *pem)
        return HttpTarget(resource.base_url, self._connections, headers=headers.items(), context=context)

    def _url(self, url: str) -> HttpTarget:
        if self._multi_app:
            try:
                host = (urlsplit(url).hostname or "").lower()
            except ValueError as error:
                raise errors.INVOKE_FAILED(app=url, detail=f"not a URL: {error}") from error
            if host not in self._allowed_hosts:
                raise errors.INVOKE_DENIED(
                    app=url,
                    detail=f"absolute URLs are off on a shared instance: allow {host or 'the host'} with --allow-external-urls, "
                    "or use an HTTPEndpoint",
                )
        target = self._urls.get(url)
        if target is None:
            try:
                target = HttpTarget(url, self._connections)
            except ChannelConfigurationError as error:
                raise errors.INVOKE_FAILED(app=url, detail=error) from error
            if len(self._urls) >= _URL_TARGETS:
                self._urls.clear()
            self._urls[url] = target
        return target


def _in_scope(resource: HTTPEndpoint, app_id: str) -> bool:
    return not resource.scopes or app_id in resource.scopes


def _tls_item(name: str, raw: Any) -> MetadataItem:
    if not isinstance(raw, dict):
        return MetadataItem(name=name, value="")
    given = cast("dict[str, Any]", raw)
    reference = cast("dict[str, Any]", given.get("secretKeyRef") or {})
    if reference:
        ref = SecretKeyRef(name=str(reference.get("name", "")), key=str(reference.get("key", "")))
        return MetadataItem(name=name, value=given.get("value"), secret_key_ref=ref)
    return MetadataItem(name=name, value=str(given.get("value", "")))
