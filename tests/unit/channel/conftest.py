from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from dapr_shared.contracts.invocation import InvokeRequest
from tests.support.required import need_command

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Certificates:
    """A self-made authority, a certificate for `app.test` and a client's."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Certificates:
    """Certificates made for this run by the openssl command."""
    openssl = need_command("openssl", "openssl")
    folder = tmp_path_factory.mktemp("certificates")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    # Python 3.13 and newer check strictly (RFC 5280): an authority says what its key is for, a certificate who made it.
    run(
        *new, "-x509", "-days", "2", "-subj", "/CN=test authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-keyout", "ca.key", "-out", "ca.pem",
    )  # fmt: skip
    for name, subject in (("app", "app.test"), ("client", "client.test")):
        (folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{subject}\nauthorityKeyIdentifier=keyid\n")
        run(*new, "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        run(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )  # fmt: skip
    return Certificates(*(folder / name for name in ("ca.pem", "app.pem", "app.key", "client.pem", "client.key")))


@pytest.fixture
def call():
    """Makes an invocation with what a test cares about."""

    def make(method="m", verb="POST", query=b"", headers=(), body=b"", content_type=None) -> InvokeRequest:
        return InvokeRequest(method, verb, query, list(headers), body, content_type)

    return make
