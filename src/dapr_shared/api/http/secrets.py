"""Secrets over HTTP. Facts: reference http-api §6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.api.http.call import HttpCall, json_response, no_content
from dapr_shared.api.http.routes import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.blocks.secrets import SecretsBlock
    from dapr_shared.wire.http.messages import Response


class SecretsApi:
    """Turns HTTP requests into calls of the secrets block."""

    def __init__(self, block: SecretsBlock) -> None:
        self._block = block

    def routes(self) -> Sequence[Route]:
        return [
            Route(("GET",), "/v1.0/secrets/{store}/bulk", self.bulk, "GetBulkSecret", "secrets"),
            Route(("GET",), "/v1.0/secrets/{store}/{key}", self.get, "GetSecret", "secrets"),
        ]

    async def get(self, call: HttpCall) -> Response:
        store, key = call.params
        secret = await self._block.get(call.proved, store, key, call.metadata())
        return json_response(dict(secret)) if secret else no_content()

    async def bulk(self, call: HttpCall) -> Response:
        (store,) = call.params
        secrets = await self._block.bulk(call.proved, store, call.metadata())
        return json_response({name: dict(secret) for name, secret in secrets.items()})
