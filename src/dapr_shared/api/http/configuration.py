"""Configuration over HTTP. Facts: reference http-api §6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.api.http.call import HttpCall, json_response, no_content
from dapr_shared.api.http.routes import Route
from dapr_shared.blocks.configuration.delivery import item_json
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.blocks.configuration.block import ConfigurationBlock
    from dapr_shared.wire.http.messages import Response

_API = "configuration"


class ConfigurationApi:
    """Turns HTTP requests into calls of the configuration block."""

    def __init__(self, block: ConfigurationBlock) -> None:
        self._block = block

    def routes(self) -> Sequence[Route]:
        made: list[Route] = []
        for path, version in (("v1.0", "v1"), ("v1.0-alpha1", "v1alpha1")):
            store = f"/{path}/configuration/{{store}}"
            made += [
                Route(("GET",), store, self.get, "GetConfiguration", _API, version),
                Route(("GET",), f"{store}/subscribe", self.subscribe, "SubscribeConfiguration", _API, version),
                Route(
                    ("GET",), f"{store}/{{id}}/unsubscribe", self.unsubscribe, "UnsubscribeConfiguration", _API, version
                ),
            ]
        return made

    async def get(self, call: HttpCall) -> Response:
        (store,) = call.params
        items = await self._block.get(call.proved, store, call.query_all("key"), call.metadata())
        return json_response({key: item_json(item) for key, item in items.items()}) if items else no_content()

    async def subscribe(self, call: HttpCall) -> Response:
        (store,) = call.params
        listener = await self._block.subscribe_app(call.proved, store, call.query_all("key"), call.metadata())
        return json_response({"id": listener})

    async def unsubscribe(self, call: HttpCall) -> Response:
        store, listener = call.params
        try:
            await self._block.unsubscribe(call.proved, store, listener)
        except DaprError as error:
            row = errors.CONFIGURATION_UNSUBSCRIBE
            if error.row is not row:
                raise
            return json_response({"message": error.message}, row.http)  # daprd's own form: no errorCode
        return json_response({"ok": True})
