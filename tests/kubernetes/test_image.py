"""The image that users run: in a container without rights, on a root file system that cannot be written."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.support import images
from tests.support.machines import Machine, need_containers
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow]
_LIMITED = ("--read-only", "--cap-drop", "CAP_NET_BIND_SERVICE", "--mount")
_DATA = "type=tmpfs,src=tmpfs,dst=/data,options=uid=65532:gid=65532"


@pytest.fixture(scope="module")
def archive() -> Path:
    """The image as `make image` writes it."""
    need_containers()
    return images.dapr_shared()


@pytest.fixture(scope="module")
def machine(archive, tmp_path_factory) -> Iterator[Machine]:
    """A machine that has the image."""
    machine = Machine(tmp_path_factory.mktemp("machine"), "machine")
    try:
        machine.start()
        machine.run("ctr", "images", "import", str(archive), patience=300)
        yield machine
    finally:
        machine.remove()


def _run(machine: Machine, *command: str, patience: float = 60.0) -> str:
    """What a command prints in a container of the image."""
    return machine.run("ctr", "run", "--rm", *_LIMITED, _DATA, images.NAME, "one", *command, patience=patience)


def test_its_programs(machine):
    """Both programs are there, as the paths that a pod's args name and by PATH."""
    for program in ("/daprd", "daprd"):
        assert _run(machine, program, "--version").strip() == "0.1.0"
    assert "Dapr's building blocks" in _run(machine, "dapr-shared", "--help")


def test_it_runs_without_rights(machine):
    """Its user is not root, holds no capability that counts, and can write its data and nothing else."""
    program = (
        "import os\n"
        "print(os.getuid(), os.getgid())\n"
        "open('/data/mine', 'w').close()\n"
        "for path in ('/new', '/usr/new', '/tmp/new', '/daprd'):\n"
        "    try:\n"
        "        open(path, 'w')\n"
        "    except OSError as error:\n"
        "        print(path, error.strerror)\n"
        "print(open('/proc/self/status').read().split('CapEff:')[1].split()[0])\n"
    )
    said = _run(machine, "python3", "-c", program).splitlines()
    assert said[0] == "65532 65532"
    assert said[1:5] == [f"{path} Read-only file system" for path in ("/new", "/usr/new", "/tmp/new", "/daprd")]
    assert int(said[5], 16) == 0


def test_every_component_of_the_catalog_is_in_it(machine):
    """Each adapter of the catalog can be imported: the image has all extras."""
    program = (
        "import importlib\n"
        "from dapr_shared.components.catalog import BUILT_IN\n"
        "for row in BUILT_IN:\n"
        "    module, name = row.target.split(':')\n"
        "    getattr(importlib.import_module(module), name)\n"
        "print(len(BUILT_IN))\n"
    )
    assert int(_run(machine, "python3", "-c", program)) > 20


def test_its_size_and_content(archive):
    """It is small, has no shell, no program that gives rights, and its Python needs to compile nothing."""
    with tarfile.open(archive) as image:
        layers = [entry for entry in image if entry.name.startswith("blobs/")]
        assert sum(entry.size for entry in layers) < 200e6
        names: dict[str, int] = {}
        for entry in layers:
            with contextlib.suppress(tarfile.ReadError), tarfile.open(fileobj=image.extractfile(entry)) as layer:
                names |= {member.name: member.mode for member in layer}
    assert not {"bin/sh", "usr/bin/sh", "bin/bash", "usr/bin/apt", "usr/bin/dpkg", "usr/bin/pip"} & set(names)
    assert not [name for name, mode in names.items() if mode & 0o6000]
    own = [name for name in names if name.endswith(".py") and "/dapr_shared/" in name]
    missing = [
        name
        for name in own
        if "{}/__pycache__/{}.cpython-311.pyc".format(*name.removesuffix(".py").rsplit("/", 1)) not in names
    ]
    assert len(own) > 200
    assert not missing


def test_it_is_ready_at_once(machine, measured):
    """An instance in a container is ready soon (in under two seconds on an idle machine), keeps state, and ends with 0."""
    http, grpc, public, metrics = free_ports(4)
    ports = [f"--dapr-http-port={http}", f"--dapr-grpc-port={grpc}", f"--dapr-public-port={public}"]
    flags = ["--app-id=tea", *ports, f"--metrics-port={metrics}", "--dapr-listen-addresses=127.0.0.1"]
    run = ["ctr", "run", "--rm", "--net-host", *_LIMITED, _DATA, images.NAME, "instance"]
    words = machine.words(*run, "/dapr-shared", "run", *flags, "--data-dir=/data")
    began = time.monotonic()
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            while not _answers(f"http://127.0.0.1:{http}/v1.0/healthz/outbound"):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < began + 30
                time.sleep(0.02)
            measured("seconds until ready:", round(time.monotonic() - began, 2))
            store = f"http://127.0.0.1:{http}/v1.0/state/statestore"
            body = json.dumps([{"key": "kind", "value": "green"}]).encode()
            saved = urllib.request.Request(store, body, {"content-type": "application/json"})
            with urllib.request.urlopen(saved, timeout=10) as answer:
                assert answer.status == 204
            with urllib.request.urlopen(f"{store}/kind", timeout=10) as answer:
                assert json.load(answer) == "green"
            machine.run("ctr", "tasks", "kill", "--signal", "SIGTERM", "instance")
            assert process.wait(30) == 0
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return answer.status == 204
    except (urllib.error.URLError, OSError):
        return False
