"""Example 03: a package with a store of its own is installed, passes the suite with its few lines, and serves an app."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.instance import app, component, running

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "03-a-store-of-your-own"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the package, built and installed as any other, without a network."""
    folder = tmp_path_factory.mktemp("installed")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
         "--no-build-isolation", "--target", folder, EXAMPLE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_it_passes_the_suite(installed):
    """The example's own test file runs every case of the state suite against the installed package."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", EXAMPLE / "test_conformance.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) passed", done.stdout)
    assert found, done.stdout
    assert int(found[1]) > 100, done.stdout
    lines = [line for line in (EXAMPLE / "test_conformance.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= 12


def test_it_serves_an_app(installed, tmp_path):
    """An instance beside the package has the type; what an app saves is there after a restart."""
    resources = [app("orders"), component("folder", "state.folder", path=str(tmp_path / "values"))]
    environment = {"PYTHONPATH": str(installed)}
    with running(tmp_path, resources=resources, env=environment) as instance:
        assert instance.ask("POST", "/v1.0/state/folder", b'[{"key":"k","value":1}]', app="orders").status == 204
        shown = instance.ask("GET", "/v1.0/metadata", app="orders").json()["components"]
        assert [(one["type"], one["capabilities"]) for one in shown if one["name"] == "folder"] == [
            ("state.folder", ["ETAG"])
        ]
    with running(tmp_path, resources=resources, env=environment) as instance:
        assert instance.ask("GET", "/v1.0/state/folder/k", app="orders").json() == 1
