"""What a test needs from the machine: where it is absent, a skip on a laptop and a failure in CI."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket

import pytest


def need(condition: object, what: str) -> None:
    """Go on if `condition` holds. Else the test is skipped, or fails where the environment has CI=true.

    `what` names the thing and how to get it, for example "the command openssl (apt install openssl)".
    """
    if condition:
        return
    message = f"needs {what}"
    if in_ci():
        pytest.fail(f"{message}: under CI=true .ci/run must have installed it", pytrace=False)
    pytest.skip(message)


def need_command(name: str, package: str) -> str:
    """The path of a command; `need` with the Debian package that brings it."""
    path = shutil.which(name)
    need(path, f"the command {name} (apt install {package})")
    return path or ""


def need_module(name: str) -> None:
    """`need` for a Python package of the requirement files."""
    need(importlib.util.find_spec(name) is not None, f"the Python package {name} (make environment-dev)")


def has_ipv6_loopback() -> bool:
    """Whether `::1` can be listened on: what Python was built with says nothing about the machine."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def in_ci() -> bool:
    """Whether a test that cannot run is a failure."""
    return os.environ.get("CI", "").lower() == "true"
