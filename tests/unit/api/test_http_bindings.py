"""Output bindings over HTTP: what of an answer's metadata is in headers."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from dapr_shared.api.http.bindings import BindingsApi
from dapr_shared.contracts.bindings import BindingResponse


async def test_headers_stay_within_what_clients_read():
    """A system that answers with endless metadata does not make the app's client give the answer up."""
    many = {f"n{number}": "1" for number in range(100_000)}
    large = {f"n{number}": "y" * 4000 for number in range(100)}
    broken = {"a": "1\r\nset-cookie: x", "b c": "2"}

    async def shown(metadata: dict[str, str]) -> list[tuple[bytes, bytes]]:
        async def invoke(*_: Any) -> BindingResponse:
            return BindingResponse(b"data", metadata)

        async def body(decoder: Any, _: Any) -> Any:
            return decoder.decode(json.dumps({"operation": "get"}))

        request = SimpleNamespace(headers=[])
        call: Any = SimpleNamespace(params=("b",), json=body, trace=[], request=request, proved=None)
        block: Any = SimpleNamespace(invoke=invoke)
        response = await BindingsApi(block).invoke(call)
        assert response.body == b"data"
        return [header for header in response.headers if header[0].startswith(b"metadata.")]

    assert len(await shown(many)) == 80
    found = await shown(large)
    assert found
    assert sum(len(name) + len(value) for name, value in found) <= 16 * 1024
    assert await shown(broken) == [(b"metadata.a", b"1  set-cookie: x")]
