"""The reference page of the HTTP and gRPC APIs: what is there and what is not, read from the route tables."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

from reference_tables import table

from dapr_shared._proto import SERVICES
from dapr_shared.api.grpc.frontdoor import SERVICE
from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.observability.events import Events
from dapr_shared.observability.logs import LogOptions, Logs
from dapr_shared.runtime.assembly import assemble
from dapr_shared.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.api.http.routes import Route
    from dapr_shared.runtime.assembly import Parts

_KINDS = {"unary": "", "server-stream": "stream of answers", "client-stream": "stream of requests", "bidi": "both ways"}


def apis_page() -> str:
    """The routes and methods of an instance, assembled with its default settings and not started."""
    parts = asyncio.run(_assembled())
    routes = parts.http.table.routes
    there = [route for route in routes if not route.name.startswith("Unimplemented")]
    absent = [route for route in routes if route.name.startswith("Unimplemented")]
    return (
        "# APIs\n\n"
        "What an instance of this version serves, from its own route tables. The forms of requests and answers are "
        "Dapr's. *API name* is the name in a Configuration's `api` lists of what is allowed and denied.\n\n"
        "## HTTP\n\n"
        f"{table(('verbs', 'path', 'operation', 'API name', 'who may'), [_route(route) for route in there])}\n"
        "Service invocation has the path `/v1.0/invoke/{app id}/method/{method}` for all verbs; a request with the "
        "header `dapr-app-id` is an invocation too, whatever its path.\n\n"
        "## HTTP, not yet\n\n"
        "These answer 501 with `ERR_UNIMPLEMENTED`.\n\n"
        f"{table(('path', 'API name'), [(f'`{route.path}`', route.api) for route in absent])}\n"
        "## gRPC\n\n"
        f"The service `{SERVICE}`. A call of any other service is relayed to the app that the metadata key "
        "`dapr-app-id` names. A method that is not there yet answers `UNIMPLEMENTED`.\n\n"
        f"{_methods(parts)}"
    )


async def _assembled() -> Parts:
    with Logs(LogOptions(), stream=io.BytesIO()) as logs:
        events = Events(DaprMetrics(), logs.logger)
        return assemble(Settings(), None, events, logs, single=None, api_token=None, stop=lambda _force: None)


def _route(route: Route) -> Sequence[object]:
    who = "anybody" if route.open else "a proved app"
    verbs = ", ".join(route.verbs) or "all"
    return verbs, f"`{route.path}`", route.name, route.api, who + (", also on the public port" if route.public else "")


def _methods(parts: Parts) -> str:
    rows = [
        (
            f"`{row.name}`",
            "there" if parts.grpc.serves(row.name) else "not yet",
            _KINDS[row.kind],
            "deprecated by Dapr" if row.deprecated else "",
        )
        for row in SERVICES[SERVICE].methods.values()
    ]
    return table(("method", "in this version", "kind", "note"), rows)
