"""What the client gives for a request: the answer of an app or of another server.

Last step of the delivery road and of an invocation.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from dapr_shared.wire.http.messages import Body, Headers


class ClientResponse(msgspec.Struct, eq=False):
    """An answer: status, headers as received, and the body: whole if small and of known length, else a stream.

    A stream must be read to its end or closed with `aclose()`, else its connection stays open.
    """

    status: int
    headers: Headers
    body: Body

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; `name` in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


async def close_body(body: object) -> None:
    """Close a body that will not be read on, if it can be closed. A failure to close has nobody to tell."""
    close = getattr(body, "aclose", None)
    if close is not None:
        with suppress(Exception):
            await close()
