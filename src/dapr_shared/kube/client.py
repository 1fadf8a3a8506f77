"""A client of the Kubernetes API server: plain JSON, nothing typed, nothing generated.

Beside both roads; all of cluster mode asks through one of these.
"""

from __future__ import annotations

import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import orjson

from dapr_shared.kube.config import KubeConfig, config_from
from dapr_shared.kube.connection import ApiConnection, Request
from dapr_shared.kube.errors import Asked, Gone, KubeError, error_of
from dapr_shared.kube.objects import JsonObject, ObjectKind, ObjectList, PublishedPath, trimmed, version_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AsyncExitStack

    from dapr_shared.kube.errors import Advise

WATCH_SECONDS: Final = (300, 600)
"""Seconds that the server is asked to keep a watch, at least and at most: spread, so that not all end at once."""
CHUNK: Final = 250
"""Objects in one part of a list."""
CHUNK_METADATA: Final = 1000
"""The same, of metadata alone."""
_JSON: Final = "application/json"
_METADATA_LIST: Final = f"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{_JSON}"
_METADATA: Final = f"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{_JSON}"
_PUBLISHED: Final = f"{_JSON}, application/jwk-set+json"
_MERGE_PATCH: Final = "application/merge-patch+json"
_APPLY: Final = "application/apply-patch+yaml"
_EVENT_TYPES: Final = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})


class WatchEvent(NamedTuple):
    """One change, as a watch tells it."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    """BOOKMARK: nothing changed, but the watch has come as far as the object's `resourceVersion`."""
    object: JsonObject


class KubeClient:
    """Asks one API server as one identity.

    Every method raises a `KubeError` whose text names verb, resource and namespace. An empty namespace means all of them,
    or a cluster-scoped kind.
    """

    def __init__(self, config: KubeConfig, *, agent: str = "dapr-shared", advise: Advise | None = None) -> None:
        """`advise` says in errors how a right that is missing is given."""
        self.namespace = config.namespace
        """The pod's own, or that of the kubeconfig's context."""
        self.agent = agent
        """Who we are, in the server's audit log and as the reporter of Events."""
        self.server = config.server
        self._connection = ApiConnection(config, agent, advise)

    def __repr__(self) -> str:
        return f"KubeClient({self.server})"

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, agent: str = "dapr-shared", advise: Advise | None = None
    ) -> KubeClient:
        """By KUBECONFIG where it is set, else by the pod's service account. Raises `KubeConfigError`.

        Blocks, for small files.
        """
        return cls(config_from(environ), agent=agent, advise=advise)

    async def start(self, stack: AsyncExitStack) -> None:
        """Read the credentials; nothing is sent yet. Raises `KubeConfigError`."""
        await self._connection.start(stack)

    # Reading ---------------------------------------------------------------------------------------------------------
    async def get(self, kind: ObjectKind, name: str, namespace: str = "") -> JsonObject:
        """One object, whole. Raises `NotFound`."""
        return await self._ask("GET", Asked("get", kind, namespace, name))

    async def published(self, path: PublishedPath) -> JsonObject:
        """What the API server publishes there. Every service account may read that, unless the cluster says otherwise."""
        return await self._connection.ask(Request("GET", Asked("get", path), {}, {"Accept": _PUBLISHED}))

    async def list(
        self,
        kind: ObjectKind,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        wanted: Callable[[JsonObject], bool] | None = None,
    ) -> ObjectList:
        """All objects as they are now, read in parts; each without what `trimmed` drops.

        Those for which `wanted` answers false are left out, part by part, so that they take no memory.
        """
        params = _selectors(label_selector, field_selector)
        params["limit"] = str(CHUNK_METADATA if metadata_only else CHUNK)
        headers = {"Accept": _METADATA_LIST if metadata_only else _JSON}
        request = Request("GET", Asked("list", kind, namespace), params, headers)
        items: list[JsonObject] = []
        while True:
            try:
                part = await self._connection.ask(request)
            except Gone:
                if not params.pop("continue", ""):
                    raise
                params.pop("limit")  # reading in parts took longer than the server remembers: all at once
                items.clear()
                continue
            found = (trimmed(kind, item, metadata_only=metadata_only) for item in part.get("items") or ())
            items += found if wanted is None else filter(wanted, found)
            metadata: JsonObject = part.get("metadata") or {}
            token = metadata.get("continue")
            if not token:
                return ObjectList(items, version_of(part))
            params["continue"] = token

    async def watch(
        self,
        kind: ObjectKind,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> AsyncGenerator[WatchEvent]:
        """Changes since that version, until the server ends the watch, which it does after some minutes.

        The first is always a BOOKMARK of the version asked for: the server has answered, and the watch goes on. Raises `Gone` when it does not remember the version, also in the middle, and `Unavailable` when nothing at all
        came for a while (`connection.SILENCE`). Use it within `contextlib.aclosing`, which ends the connection.
        """
        params = _selectors(label_selector, field_selector)
        params |= {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),  # noqa: S311 - spreads load
        }
        headers = {"Accept": _METADATA if metadata_only else _JSON, "Accept-Encoding": "identity"}
        request = Request("GET", Asked("watch", kind, namespace), params, headers)
        async with aclosing(self._connection.follow(request)) as lines:
            await anext(lines)
            yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": resource_version}})
            async for line in lines:
                yield _event(request.asked, line, metadata_only=metadata_only)

    # Writing ---------------------------------------------------------------------------------------------------------
    async def create(self, kind: ObjectKind, body: JsonObject, namespace: str = "") -> JsonObject:
        """Make an object; the answer is as the server has it. Raises `Conflict` where it exists."""
        return await self._ask("POST", Asked("create", kind, namespace), body)

    async def patch(
        self,
        kind: ObjectKind,
        name: str,
        body: JsonObject,
        namespace: str = "",
        *,
        subresource: str = "",
        apply_as: str = "",
    ) -> JsonObject:
        """Change what `body` has (merge patch). With `apply_as`: server-side apply as this field manager, by force."""
        asked = Asked("patch", kind, namespace, name, subresource)
        if not apply_as:
            return await self._ask("PATCH", asked, body, content_type=_MERGE_PATCH)
        body = {**body, "apiVersion": kind.api_version, "kind": kind.kind}
        body["metadata"] = {**body.get("metadata", {}), "name": name}
        params = {"fieldManager": apply_as, "force": "true"}
        return await self._ask("PATCH", asked, body, content_type=_APPLY, params=params)

    async def replace(self, kind: ObjectKind, name: str, body: JsonObject, namespace: str = "") -> JsonObject:
        """Put the object in place of what is there. Raises `Conflict` where its `resourceVersion` is not the newest."""
        return await self._ask("PUT", Asked("update", kind, namespace, name), body)

    async def delete(self, kind: ObjectKind, name: str, namespace: str = "") -> None:
        """Remove an object. Raises `NotFound`."""
        await self._ask("DELETE", Asked("delete", kind, namespace, name))

    async def _ask(
        self,
        method: str,
        asked: Asked,
        body: JsonObject | None = None,
        *,
        content_type: str = _JSON,
        params: dict[str, str] | None = None,
    ) -> JsonObject:
        headers = {"Accept": _JSON, **({} if body is None else {"Content-Type": content_type})}
        return await self._connection.ask(Request(method, asked, params or {}, headers, body))


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    given = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in given.items() if value}


def _event(asked: Asked, line: bytes, *, metadata_only: bool) -> WatchEvent:
    try:
        event: Any = orjson.loads(line)
        kind: Any = event["type"]
        item: JsonObject = event["object"]
        if kind == "ERROR":
            raise error_of(asked, int(item.get("code") or 500), item)
        if kind == "BOOKMARK":
            return WatchEvent(kind, item)
        if kind in _EVENT_TYPES:
            return WatchEvent(kind, trimmed(asked.kind, item, metadata_only=metadata_only))
    except (ValueError, LookupError, TypeError, AttributeError):  # their texts would show what was sent
        pass
    raise KubeError(200, "", f"{asked}: the API server sent what is no event")
