"""The APIs of Dapr that this version lacks: named, so that they are neither misread as invocations nor a riddle.

First step of the request road. A row goes when its block comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.api.http.routes import Handler, Route
from dapr_shared.core import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.api.http.call import HttpCall
    from dapr_shared.wire.http.messages import Response

ABSENT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("publish", ("v1.0", "v1.0-alpha1")),
    ("crypto", ("v1.0-alpha1",)),
    ("subtlecrypto", ("v1.0-alpha1",)),
    ("actors", ("v1.0",)),
    ("jobs", ("v1.0", "v1.0-alpha1")),
    ("workflows", ("v1.0", "v1.0-beta1", "v1.0-alpha1")),
    ("conversation", ("v1.0-alpha1", "v1.0-alpha2")),
)
"""API names of the Configuration's lists, with their path versions."""


def absent_routes(present: frozenset[str]) -> Sequence[Route]:
    """A route for every path below an absent API; `present`: the names that have routes of their own."""
    return [
        Route((), f"/{version}/{name}/{{rest...}}", _unimplemented(name), f"Unimplemented{name.capitalize()}", name)
        for name, versions in ABSENT
        if name not in present
        for version in versions
    ]


def _unimplemented(name: str) -> Handler:
    async def handler(call: HttpCall) -> Response:  # noqa: ARG001 - whatever was asked
        raise errors.UNIMPLEMENTED(api=f"the {name} API")

    return handler
