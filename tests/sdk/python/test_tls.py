"""The official Python SDK over TLS, told by its own environment variables where the instance is and whom to trust."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.instance import app, component, running, token_of
from tests.support.tls_certificates import Authority

PROGRAM = """
import asyncio
from dapr.clients import DaprClient
from dapr.aio.clients import DaprClient as AioClient

with DaprClient() as client:
    client.save_state("statestore", "tea", "green")
    print(client.get_state("statestore", "tea").data.decode())
    print(client.get_metadata().application_id)

async def main():
    async with AioClient() as client:
        print((await client.get_state("statestore", "tea")).data.decode())

asyncio.run(main())
"""


def test_endpoints_with_https(tmp_path):
    """DAPR_HTTP_ENDPOINT and DAPR_GRPC_ENDPOINT with https:// and a private authority: health over HTTP, calls over gRPC."""
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("server", server=True)
    resources = [app("orders"), component("statestore", "state.in-memory")]
    with running(tmp_path / "instance", *pair.flags(), resources=resources) as instance:
        environment = {
            "PATH": os.environ["PATH"],
            "DAPR_HTTP_ENDPOINT": f"https://localhost:{instance.http_port}",
            "DAPR_GRPC_ENDPOINT": f"https://localhost:{instance.grpc_port}",
            "DAPR_API_TOKEN": token_of("orders"),
            "SSL_CERT_FILE": str(authority.file),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(authority.file),
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["green", "orders", "green"]
