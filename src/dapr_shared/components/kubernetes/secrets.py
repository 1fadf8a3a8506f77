"""`secretstores.kubernetes`: the Secrets of a Kubernetes cluster.

Last step of the request road. Which namespace is read: on an instance for one app as in daprd (reference components §6):
the request's `namespace`, then the variable NAMESPACE, then `defaultNamespace`. On an instance for many apps the
component's own namespace and no other, whatever a request or a setting says: the instance may read the Secrets of several
namespaces, and who writes a Component or calls in one of them must not have those of another by it.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import binascii
import os
import re
from base64 import b64decode
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.secretstores import (
    SecretNotFoundError,
    SecretStore,
    SecretStoreCapability,
    SecretUnusableError,
)
from dapr_shared.contracts.settings import Setting, SettingError, Settings
from dapr_shared.core.rights import advice
from dapr_shared.kube.client import KubeClient
from dapr_shared.kube.errors import KubeConfigError, KubeError, NotFound, Unavailable
from dapr_shared.kube.objects import SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from dapr_shared.contracts.component import ComponentContext

_NAMESPACE_METADATA = "namespace"
_NOT_FOUND = "NotFound"
"""The API server's own word for it, in the Status that it sends."""
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
"""What a Secret or a namespace can be called; anything else is not found, and never becomes part of a path."""


class KubernetesSecretSettings(Settings, frozen=True, kw_only=True):
    """The settings of `secretstores.kubernetes`."""

    default_namespace: Annotated[
        str,
        Setting(
            "Namespace that is read where neither the request nor the variable NAMESPACE names one. On an instance for "
            "many apps it can only be the component's own.",
            example="shop",
        ),
    ] = ""
    kubeconfig_path: Annotated[
        str,
        Setting(
            "A kubeconfig to use in place of the pod's service account, or of the variable KUBECONFIG. Not on an instance "
            "for many apps."
        ),
    ] = ""


class KubernetesSecretStore(SecretStore[KubernetesSecretSettings]):
    """Each Secret is one secret with all its keys. Bytes that are not UTF-8 come as the replacement character."""

    settings_type = KubernetesSecretSettings
    capabilities: ClassVar[frozenset[str]] = frozenset({SecretStoreCapability.MULTIPLE_KEY_VALUES_PER_SECRET})

    def __init__(self, settings: KubernetesSecretSettings, context: ComponentContext) -> None:
        super().__init__(settings, context)
        self._client: KubeClient | None = None
        if context.single_app:
            return
        if settings.default_namespace not in {"", context.namespace}:
            raise SettingError(
                "defaultNamespace",
                f"is another namespace than the component's, {context.namespace}: on an instance for many apps a "
                "component reads the Secrets of its own namespace alone",
            )
        if settings.kubeconfig_path:
            raise SettingError(
                "kubeconfigPath",
                "is for an instance of one app; for many the instance's own access to the cluster counts",
            )

    async def start(self, stack: AsyncExitStack) -> None:
        """Read how to reach the API server. It is not asked yet: it may be away while the instance starts."""
        path = self.settings.kubeconfig_path
        try:
            client = KubeClient.from_environment({"KUBECONFIG": path} if path else os.environ, advise=advice)
            await client.start(stack)
        except KubeConfigError as error:
            raise BackendError(str(error)) from error
        self._client = client
        stack.callback(self._forget)

    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        return await read_secret(self._open(), name, self._namespace(metadata))

    async def bulk(self, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """Needs the verb list on secrets; `get` does with the verb get."""
        namespace = self._namespace(metadata)
        try:
            found = await self._open().list(SECRETS, namespace)
        except KubeError as error:
            raise _failure(error) from error
        return {item["metadata"]["name"]: _values(item) for item in found.items}

    def _namespace(self, metadata: Mapping[str, str]) -> str:
        """The namespace to read. Raises `BackendError` where there is none, or where it is closed to this component."""
        asked = metadata.get(_NAMESPACE_METADATA, "")
        if not self.context.single_app:
            if asked not in {"", self.context.namespace}:
                raise BackendError(f"{self.context.name} reads the Secrets of namespace {self.context.namespace} alone")
            return self.context.namespace
        namespace = asked or os.environ.get("NAMESPACE", "") or self.settings.default_namespace
        if not namespace:
            raise BackendError(
                "no namespace is given: name one in the request's metadata (namespace), in the variable NAMESPACE or in "
                "defaultNamespace"
            )
        if not _NAME.fullmatch(namespace):
            raise BackendError("the namespace that is given is no name of a namespace")
        return namespace

    def _open(self) -> KubeClient:
        if self._client is None:
            raise BackendError(f"secret store {self.context.name} is not open")
        return self._client

    def _forget(self) -> None:
        self._client = None


CREDENTIALS = frozenset({"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})
"""Types of Secrets that open the API server itself."""


async def read_secret(
    client: KubeClient, name: str, namespace: str, *, refused: frozenset[str] = frozenset()
) -> Mapping[str, str]:
    """One Secret. Raises `SecretNotFoundError`, `SecretUnusableError` (a refused type), and `BackendError`.

    A 404 that is no answer of an API server (a gateway between that has lost its way) does not say that there is none.
    """
    if not _NAME.fullmatch(name):
        raise SecretNotFoundError(f"secret {name!r} not found: a Secret cannot be called so")
    try:
        found = await client.get(SECRETS, name, namespace)
    except NotFound as error:
        if error.reason != _NOT_FOUND:
            raise BackendUnavailableError(
                f"get secrets {name} in namespace {namespace}: answered 404, but not as an API server does"
            ) from error
        raise SecretNotFoundError(f"secret {name} not found in namespace {namespace}") from error
    except KubeError as error:
        raise _failure(error) from error
    kind = str(found.get("type", ""))
    if kind in refused:
        raise SecretUnusableError(
            f"the Secret {name} of namespace {namespace} is of type {kind}, a credential of the cluster: resources and "
            "annotations may not refer to it; copy what you need into a Secret of type Opaque"
        )
    return _values(found)


def _failure(error: KubeError) -> BackendError:
    return (BackendUnavailableError if isinstance(error, Unavailable) else BackendError)(error.message)


def _values(item: Mapping[str, Any]) -> dict[str, str]:
    """The keys of a Secret with their values decoded. Raises `BackendError`, which shows none of them."""
    data: Mapping[str, str] = item.get("data") or {}
    try:
        return {key: b64decode(value, validate=True).decode(errors="replace") for key, value in data.items()}
    except (binascii.Error, ValueError, TypeError):
        raise BackendError("the API server has sent a Secret whose values are not in base64") from None
