"""A secret store of another program.

Last step of the request road. Facts: reference internal §7.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dapr_shared._proto import components_pb
from dapr_shared.components.pluggable.connection import Connection, PluggableSettings, init_metadata
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.secretstores import SecretNotFoundError, SecretStore, SecretStoreCapability
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack


class PluggableSecretStore(SecretStore[PluggableSettings]):
    """A secret store behind a socket."""

    settings_type = PluggableSettings
    capabilities: ClassVar[frozenset[str]] = frozenset(SecretStoreCapability)

    _features: frozenset[str] = frozenset()

    def effective_capabilities(self) -> frozenset[str]:
        return type(self).capabilities & self._features

    async def start(self, stack: AsyncExitStack) -> None:
        self._connection = Connection(self.context.type, "SecretStore", self.context.name, self._initialise)
        await self._connection.open(stack)

    async def _initialise(self, connection: Connection) -> None:
        request = components_pb.SecretStoreInitRequest(metadata=init_metadata(self.settings.properties))
        await connection.request("Init", request, components_pb.SecretStoreInitResponse)
        answer = await connection.request("Features", components_pb.FeaturesRequest(), components_pb.FeaturesResponse)
        self._features = frozenset(answer.features)

    async def ping(self) -> None:
        await self._open().call("Ping", components_pb.PingRequest(), components_pb.PingResponse)

    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        try:
            request = components_pb.GetSecretRequest(key=name, metadata=dict(metadata))
        except UnicodeEncodeError as error:  # the protocol cannot carry such a text, so no secret has this name
            raise SecretNotFoundError("there is no secret of this name: it is no valid text") from error
        try:
            answer = await self._open().call("Get", request, components_pb.GetSecretResponse)
        except BackendError as error:
            cause = error.__cause__
            if isinstance(cause, GrpcError) and cause.code is GrpcCode.NOT_FOUND:
                raise SecretNotFoundError(f"there is no secret {name}") from error
            raise
        return dict(answer.data)

    async def bulk(self, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        request = components_pb.BulkGetSecretRequest(metadata=dict(metadata))
        answer = await self._open().call("BulkGet", request, components_pb.BulkGetSecretResponse)
        return {name: dict(secret.secrets) for name, secret in answer.data.items()}

    def _open(self) -> Connection:
        connection: Connection | None = getattr(self, "_connection", None)
        if connection is None:
            raise BackendError(f"the secret store {self.context.name} is not open")
        return connection
