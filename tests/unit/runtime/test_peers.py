"""Calls between instances: which port others call, and how theirs are found."""

from __future__ import annotations

import hashlib
import os
import socket

import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.resources.model import Configuration
from dapr_shared.runtime.peers import forwarded, internal_ports, make_peers, stable_port
from dapr_shared.runtime.settings import Settings


class Told:
    """Hears what is told."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def name_resolution_missing(self, problem: str) -> None:
        self.problems.append(problem)


def _peers(settings: Settings, resolution: object = None):
    told = Told()
    spec = {"nameResolution": resolution} if resolution is not None else {}
    made = make_peers(settings, Configuration(name="c", spec=spec), told, body_limit=1)  # pyright: ignore[reportArgumentType]
    return made, told.problems


@pytest.mark.parametrize(
    ("settings", "ports"),
    [
        (Settings(dapr_internal_grpc_port=7), [7]),
        (Settings(app_id="a", dapr_internal_grpc_port=7), [7]),
        (Settings(), []),
        (Settings(app_id="a", multi_app=True), []),
        (Settings(mode="kubernetes"), [50002]),
    ],
)
def test_ports(settings, ports):
    """A port that is asked for is opened; without one, an instance for many apps opens one in a cluster alone."""
    assert list(internal_ports(settings)) == ports


def test_the_port_of_an_app_by_itself(monkeypatch, tmp_path):
    """With --app-id alone the port is daprd's: made of app, folder, user and machine; any other where that is taken."""
    monkeypatch.chdir(tmp_path)
    seed = f"orders|{tmp_path}|{os.getuid()}|{socket.gethostname()}".encode()
    first, second = hashlib.sha256(seed).digest()[:2]
    expected = 47300 + (first + 256 * second) % (65535 - 47300)
    assert stable_port("orders") == expected
    assert list(internal_ports(Settings(app_id="orders"))) == [expected, 0]


def test_resolvers():
    """Outside a cluster there is a resolver only where the Configuration names one; one that cannot be is told."""
    assert _peers(Settings()) == (None, [])
    made, problems = _peers(Settings(mode="kubernetes"))
    assert made is not None
    assert problems == []
    assert made._names._resolver.target(AppRef("a", "b")) == "a-dapr.b.svc.cluster.local:50002"
    made, _ = _peers(Settings(mode="kubernetes", cluster_domain="example.org"))
    assert made is not None
    assert made._names._resolver.target(AppRef("a", "b")) == "a-dapr.b.svc.example.org:50002"
    made, _ = _peers(Settings(dapr_internal_grpc_port=7), {"component": "kubernetes"})
    assert made is not None
    assert made._names._resolver.target(AppRef("a", "b")).endswith(":7")
    made, problems = _peers(Settings(), {"component": "mdns"})
    assert made is None
    assert "mdns is not available in this version" in problems[0]


@pytest.mark.parametrize(
    ("address", "expected"),
    [("10.0.0.9", "for=10.0.0.9;by=10.0.0.9;host="), ("fd00::9", 'for="[fd00::9]";by="[fd00::9]";host=')],
)
def test_headers_of_proxies(monkeypatch, address, expected):
    """A peer is told where a call passed through, in the forms of RFC 7239."""
    monkeypatch.setenv("POD_IP", address)
    made = forwarded()
    assert made["X-Forwarded-For"] == address
    assert made["X-Forwarded-Host"] == socket.gethostname()
    assert made["Forwarded"] == expected + socket.gethostname()
