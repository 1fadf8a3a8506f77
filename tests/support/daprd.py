"""A real daprd beside the real process, where the environment variable DAPRD names one; else its tests are skipped."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.calls import Answer, ask
from tests.support.instance import PATIENCE, environment, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class Daprd:
    """One running daprd; its app is the only one."""

    def __init__(self, http_port: int, grpc_port: int, internal_port: int, process: subprocess.Popen[bytes]) -> None:
        self.http = f"127.0.0.1:{http_port}"
        self.grpc = f"127.0.0.1:{grpc_port}"
        self.internal_port = internal_port
        self.process = process

    def ask(self, method: str, target: str, body: bytes | None = None, **options: Any) -> Answer:
        """One HTTP request."""
        return ask(self.http, method, target, body, **options)


def daprd_path() -> str:
    """Where daprd is. No registry has it, so that its absence is a skip everywhere."""
    path = os.environ.get("DAPRD", "")
    if not path or not os.access(path, os.X_OK):
        pytest.skip("needs a daprd, named by DAPRD")
    return path


@contextmanager
def daprd(
    folder: Path,
    resources: Path,
    app_id: str,
    *flags: str,
    ready: str = "/v1.0/healthz",
    sockets: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Daprd]:
    """A daprd for one app, alone: no placement, no scheduler; ended by its id. `sockets`: of pluggable components."""
    folder.mkdir(exist_ok=True)
    http_port, grpc_port, internal, metrics, profile = free_ports(5)
    words = [
        daprd_path(), f"--app-id={app_id}", f"--dapr-http-port={http_port}", f"--dapr-grpc-port={grpc_port}",
        f"--dapr-internal-grpc-port={internal}", f"--metrics-port={metrics}", f"--profile-port={profile}",
        "--dapr-listen-addresses=127.0.0.1", "--dapr-internal-grpc-listen-address=127.0.0.1",
        "--metrics-listen-address=127.0.0.1", f"--resources-path={resources}", *flags,
    ]  # fmt: skip
    variables = {**(env or {}), **({"DAPR_COMPONENTS_SOCKETS_FOLDER": str(sockets)} if sockets else {})}
    log_path = folder / "daprd.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment(folder, variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        made = Daprd(http_port, grpc_port, internal, process)
        deadline = time.monotonic() + PATIENCE
        while not _ready(made, ready):
            assert process.poll() is None, log_path.read_text()
            assert time.monotonic() < deadline, log_path.read_text()
            time.sleep(0.05)
        yield made
    finally:
        process.kill()
        process.wait()


def _ready(made: Daprd, path: str) -> bool:
    try:
        return made.ask("GET", path).status == 204
    except OSError:
        return False
