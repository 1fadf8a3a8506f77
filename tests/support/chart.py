"""The Helm chart as tests see it: rendered with values, as the objects that would be sent to a cluster."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.kubernetes_programs import program

if TYPE_CHECKING:
    from collections.abc import Mapping

CHART = Path(__file__).parents[2] / "chart" / "dapr-shared"
RELEASE, NAMESPACE = "my", "shop"
NEWEST, MIDDLE, OLDEST = "1.34.0", "1.30.0", "1.25.0"
"""Versions of Kubernetes that the chart is rendered for and compared with."""
ONE_APP = {"shared": {"appId": "orders", "remoteURL": "orders.shop", "remotePort": 8080, "daprd": {"token": "tea"}}}
"""The values of a small release."""

Objects = list[dict[str, Any]]


class ChartError(AssertionError):
    """Helm has refused; the text is what it said."""


def merged(*values: Mapping[str, Any]) -> dict[str, Any]:
    """Values put over each other, mappings key by key."""
    result: dict[str, Any] = {}
    for one in values:
        for key, value in one.items():
            there = result.get(key)
            both = isinstance(value, dict) and isinstance(there, dict)
            result[key] = merged(there, value) if both else value
    return result


def shared(**values: Any) -> dict[str, Any]:
    """The values of a small release with these below `shared`."""
    return merged(ONE_APP, {"shared": values})


def render(values: Mapping[str, Any], *words: str, release: str = RELEASE, kubernetes: str = NEWEST) -> Objects:
    """The objects of a release. Raises ChartError."""
    text = helm("template", release, values, "--kube-version", kubernetes, *words)
    return [one for one in yaml.load_all(text, yaml.CSafeLoader) if one]


def notes(values: Mapping[str, Any], release: str = RELEASE) -> str:
    """What Helm tells after an installation."""
    return helm("install", release, values, "--dry-run=client").partition("NOTES:\n")[2]


def helm(command: str, release: str, values: Mapping[str, Any], *words: str) -> str:
    """What a command of Helm prints, without a cluster; a second call with the same words costs nothing."""
    return _helm(command, release, json.dumps(values), words)


@functools.cache
def _helm(command: str, release: str, values: str, words: tuple[str, ...]) -> str:
    with tempfile.TemporaryDirectory() as home:
        names = [release] if release else []
        done = subprocess.run(
            [program("helm"), command, *names, str(CHART), "--namespace", NAMESPACE, "--values", "-", *words],
            input=values,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "HOME": home, "KUBECONFIG": f"{home}/none"},
        )
    if done.returncode != 0:
        raise ChartError(done.stderr or done.stdout)
    return done.stdout


def one(objects: Objects, kind: str, name: str = "") -> dict[str, Any]:
    """The only object of a kind, or of a kind with a name."""
    found = of_kind(objects, kind, name)
    assert len(found) == 1, (kind, name, [each["metadata"]["name"] for each in objects if each["kind"] == kind])
    return found[0]


def of_kind(objects: Objects, kind: str, name: str = "") -> Objects:
    """The objects of a kind."""
    return [each for each in objects if each["kind"] == kind and name in ("", each["metadata"]["name"])]


def workload(objects: Objects) -> dict[str, Any]:
    """The DaemonSet or Deployment."""
    (found,) = [*of_kind(objects, "DaemonSet"), *of_kind(objects, "Deployment")]
    return found


def pod(objects: Objects) -> dict[str, Any]:
    """The pod template of the workload."""
    return workload(objects)["spec"]["template"]


def container(objects: Objects) -> dict[str, Any]:
    """The runtime's container."""
    (only,) = pod(objects)["spec"]["containers"]
    return only
