"""Images of the container tests: ours as users build it, and others made here of Debian's and Python's packages.

Each is an archive in `build/image`, kept as long as what it is made of stays the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import build_image
from scripts.oci_archive import ImageConfig, Layer, pack, write_archive
from tests.support.kubernetes_programs import program
from tests.support.required import need_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "image"
KIT = ROOT / "tests" / "kubernetes" / "kit"
NAME = "localhost/dapr-shared:0.1.0-test"
"""The image of dapr-shared in tests."""
APP = "localhost/app:1"
"""Python with Dapr's SDK, FastAPI and the apps of tests/kubernetes/apps."""
REDIS = "localhost/redis:1"
"""Debian's Redis."""
DAPRD = "localhost/daprd:1"
"""Dapr's own daprd, where the environment variable DAPRD names one; else there is no such image."""
BUILD = 900.0
"""Seconds that an image may take to be built, with its downloads, on a busy machine."""


def dapr_shared() -> Path:
    """The archive of our image, built by what `make image` runs."""
    need_command("mmdebstrap", "mmdebstrap")
    archive = FOLDER / "test.tar"
    with _alone():
        build = [sys.executable, str(ROOT / "scripts" / "build_image.py"), "--name", NAME, "--archive", str(archive)]
        done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=BUILD)
    assert done.returncode == 0, done.stdout + done.stderr
    return archive


def for_nodes() -> list[Path]:
    """The archives without which there is no cluster."""
    return [_pause(), _coredns()]


def for_cluster() -> list[Path]:
    """The archives that every node has in tests of ours."""
    return [*for_nodes(), dapr_shared(), _app(), _redis(), *_daprd()]


def _pause() -> Path:
    source = KIT / "pause.c"

    def fill(root: Path) -> None:
        compiler = need_command("cc", "gcc libc6-dev")
        subprocess.run([compiler, "-static", "-Os", "-s", "-o", root / "pause", source], check=True, timeout=60)

    return _image("localhost/pause:1", "/pause", source.read_bytes(), fill)


def _coredns() -> Path:
    file = Path(program("coredns"))

    def fill(root: Path) -> None:
        shutil.copy(file, root / "coredns")

    return _image("localhost/coredns:1", "/coredns", file.read_bytes(), fill)


def _redis() -> Path:
    need_command("mmdebstrap", "mmdebstrap")

    def fill(root: Path) -> None:
        archive = root.parent / "redis.tar"
        chosen = ["--variant=extract", "--include=redis-server"]
        subprocess.run(["mmdebstrap", "--quiet", *chosen, build_image.SUITE, archive], check=True, timeout=BUILD)
        with tarfile.open(archive) as unpacked:
            members = [entry for entry in unpacked if not entry.isdev() and "/share/" not in entry.name]
            unpacked.extractall(root, members, filter="tar")
        shutil.rmtree(root / "var/cache", ignore_errors=True)

    return _image(REDIS, "redis-server", b"redis-server of " + build_image.SUITE.encode(), fill)


def _daprd() -> list[Path]:
    source = Path(os.environ.get("DAPRD", ""))
    if not (source.is_file() and os.access(source, os.X_OK)):
        return []

    def fill(root: Path) -> None:
        # Its symbols are a third of it, and every node gets a copy.
        strip = need_command("strip", "binutils")
        subprocess.run([strip, "-o", root / "daprd", source], check=True, timeout=60)

    facts = source.stat()
    return [_image(DAPRD, "/daprd", f"{source} {facts.st_size} {facts.st_mtime_ns}".encode(), fill)]


def _app() -> Path:
    """Python as in our image, and beside it the SDK that users install, with nothing of ours."""
    dapr_shared()
    debian = FOLDER / "debian.tar.gz"
    apps = KIT.parent / "apps"
    site = f"usr/local/lib/python{build_image.PYTHON}/dist-packages"
    requirements = KIT / "app.txt"

    def fill(root: Path) -> None:
        base = root.parent / "debian"
        with tarfile.open(debian) as layer:
            layer.extractall(base, filter="tar")
        build_image.install(base, requirements, root / site)
        build_image.compile_python(base, root / site, f"/{site}")
        shutil.copytree(apps, root / "apps", ignore=shutil.ignore_patterns("__pycache__"))

    sources = b"".join(file.read_bytes() for file in sorted(apps.glob("*.py")))
    return _image(APP, "python3", debian.read_bytes() + requirements.read_bytes() + sources, fill, debian)


def _image(name: str, command: str, made_of: bytes, fill: Callable[[Path], None], base: Path | None = None) -> Path:
    """The archive of an image with one command: a new one where it was made of something else."""
    archive = FOLDER / f"{name.rpartition('/')[2].partition(':')[0]}.tar"
    mark = archive.with_suffix(".inputs")
    digest = hashlib.sha256(made_of + Path(__file__).read_bytes()).hexdigest()
    with _alone():
        if archive.exists() and mark.exists() and mark.read_text(encoding="utf-8") == digest:
            return archive
        with tempfile.TemporaryDirectory() as made:
            root = Path(made) / "root"
            for place in ("tmp", "data", "proc", "sys", "dev"):
                (root / place).mkdir(parents=True)
            (root / "tmp").chmod(0o1777)
            fill(root)
            layers = [Layer.of(base.read_bytes())] if base is not None else []
            layers.append(Layer.of(pack(root, {"data": (build_image.USER, build_image.USER)})))
        config = ImageConfig(command=[command], user=f"{build_image.USER}:{build_image.USER}")
        write_archive(archive, name, layers, config, "arm64" if os.uname().machine == "aarch64" else "amd64")
        mark.write_text(digest, encoding="utf-8")
    return archive


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
