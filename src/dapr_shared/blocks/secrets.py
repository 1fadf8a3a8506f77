"""The secrets block: one secret or all that the caller may read.

Step 4 of the request road. What an app may read is decided in `security.secrets`; here it is applied, also to values:
a secret whose value is some app's token is not given to any app, whatever its name (design §5.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from dapr_shared.blocks.counted import Counted
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.secretstores import SecretStore
from dapr_shared.core import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.core.errors import DaprError
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.dapr_metrics import DaprMetrics
    from dapr_shared.observability.events import Events


class SecretPolicy(Protocol):
    """What the block asks before it hands out a secret."""

    def allowed(self, caller: Caller, store: str, name: str) -> bool:
        """Whether the caller's scopes open this name in this store."""
        ...

    def name_protected(self, names: Iterable[str]) -> bool:
        """Whether one of these names is a token of some app."""
        ...

    def value_protected(self, values: Iterable[str]) -> bool:
        """Whether one of these values is a token of some app."""
        ...


class SecretsBlock:
    """Secrets for many apps; each reads what is opened to it."""

    def __init__(self, components: Components, policy: SecretPolicy, metrics: DaprMetrics, events: Events) -> None:
        self._components = components
        self._policy = policy
        self._metrics = metrics
        self._events = events

    async def get(self, caller: Caller, store: str, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """One secret. Raises `SECRET_DENIED` before anything is read, and for a protected value after."""
        opened = self._store(caller, store)
        if not self._readable(caller, opened, name):
            raise self._denied(caller, store, name)
        with Counted(self._metrics.secret_operation, caller, opened, "get"):
            try:
                secret = await opened.component.get(name, metadata)
            except BackendError as error:
                raise errors.SECRET_GET(key=name, store=store, detail=error) from error
        if self._policy.value_protected(secret.values()):
            raise self._denied(caller, store, name)
        return secret

    async def bulk(self, caller: Caller, store: str, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """All secrets that the caller may read; the others are left out silently, as Dapr does."""
        opened = self._store(caller, store)
        with Counted(self._metrics.secret_operation, caller, opened, "bulk_get"):
            try:
                secrets = await opened.component.bulk(metadata)
            except BackendError as error:
                raise errors.SECRET_GET(key="*", store=store, detail=error) from error
        return {
            name: secret
            for name, secret in secrets.items()
            if self._readable(caller, opened, name) and not self._policy.value_protected(secret.values())
        }

    def _denied(self, caller: Caller, store: str, name: str) -> DaprError:
        self._events.access_refused(caller.ref, "secret_scope", "GetSecret", store)
        return errors.SECRET_DENIED(key=name, store=store)

    def _readable(self, caller: Caller, opened: Opened[SecretStore[Any]], name: str) -> bool:
        return self._policy.allowed(caller, opened.name, name) and not self._policy.name_protected(
            opened.component.source_names(name)
        )

    def _store(self, caller: Caller, store: str) -> Opened[SecretStore[Any]]:
        # The contract stands for all its adapters, whatever their settings are.
        opened = self._components.find(cast("type[SecretStore[Any]]", SecretStore), caller.ref, store)
        if opened is not None:
            return opened
        if self._components.has(SecretStore, caller.ref):
            raise errors.SECRET_STORE_NOT_FOUND(store=store)
        raise errors.SECRET_STORES_NOT_CONFIGURED()
