"""Reads the secrets that resources refer to: of the stores that are open, and of the cluster.

Assembly. What a store answers (there is no such secret) is told from what it cannot say now (`SecretError`): a token whose
Secret is gone proves nobody, one whose store is away goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.secretstores import SecretNotFoundError, SecretStore, SecretUnusableError
from dapr_shared.resources.values import ReadSecret, SecretError, UnusableSecretError, WithDefaultStore
from dapr_shared.security.secrets import KUBERNETES_STORE

if TYPE_CHECKING:
    from typing import Any

    from dapr_shared.components.registry import ComponentRegistry

ClusterSecret = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""Reads a Secret by namespace and name. Raises `SecretNotFoundError` and `BackendError`."""


class SecretPlace(NamedTuple):
    """One secret of one store."""

    namespace: str
    store: str
    name: str


class SecretReaders:
    """Reads for the instance itself, whatever the scopes of a store let apps read."""

    def __init__(self, registry: ComponentRegistry, cluster_secret: ClusterSecret | None) -> None:
        """`cluster_secret`: reads the store `kubernetes`, which resources that name none mean; `None`: there is none."""
        self._registry = registry
        self._cluster_secret = cluster_secret

    async def secret(self, place: SecretPlace) -> Mapping[str, str] | None:
        """All keys of a secret; `None`: the store has answered that there is none. Raises `SecretError`.

        A component of the name goes before the cluster's own store.
        """
        try:
            store = self._store(place)
            if store is not None:
                return await store.get(place.name, {})
            if place.store == KUBERNETES_STORE and self._cluster_secret is not None:
                return await self._cluster_secret(place.namespace, place.name)
        except SecretNotFoundError:
            return None
        except SecretUnusableError as error:
            raise UnusableSecretError(str(error)) from error
        except BackendError as error:
            raise SecretError(str(error)) from error
        raise SecretError(f"there is no secret store {place.store} in namespace {place.namespace}")

    async def fresh(self, place: SecretPlace) -> Mapping[str, str] | None:
        """Like `secret`, of a store that has read its source again."""
        store = self._store(place)
        if store is not None:
            try:
                await store.refresh()
            except BackendError as error:
                raise SecretError(str(error)) from error
        return await self.secret(place)

    def reader(self, namespace: str) -> ReadSecret:
        """Reads for resources of a namespace."""
        return self._reader(namespace, self.secret)

    def once(self) -> Callable[[str], ReadSecret]:
        """Gives readers that ask for each secret once, however many resources refer to it: for one reload."""
        known: dict[SecretPlace, Mapping[str, str] | SecretError | None] = {}
        reading: dict[SecretPlace, asyncio.Lock] = {}

        async def secret(place: SecretPlace) -> Mapping[str, str] | None:
            async with reading.setdefault(place, asyncio.Lock()):
                if place not in known:
                    try:
                        known[place] = await self.secret(place)
                    except SecretError as error:
                        known[place] = error
            found = known[place]
            if isinstance(found, SecretError):
                raise found
            return found

        return lambda namespace: self._reader(namespace, secret)

    def _reader(
        self, namespace: str, secret: Callable[[SecretPlace], Awaitable[Mapping[str, str] | None]]
    ) -> ReadSecret:
        async def read(store: str, name: str, key: str) -> str | None:
            found = await secret(SecretPlace(namespace, store, name))
            return found.get(key) if found is not None else None

        return read if self._cluster_secret is None else WithDefaultStore(read, KUBERNETES_STORE)

    def _store(self, place: SecretPlace) -> SecretStore[Any] | None:
        found = (opened.component for opened in self._registry.open_as(place.namespace, place.store))
        return next((component for component in found if isinstance(component, SecretStore)), None)
