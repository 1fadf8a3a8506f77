"""Build the container image as files, without a container engine.

    python scripts/build_image.py --name registry/dapr-shared:0.1.0 [--archive FILE]

Makes three layers: Debian's Python with the libraries that it needs and nothing else (no shell, no package manager),
by mmdebstrap; the Python packages of requirements/image.txt, each checked by its hash; dapr-shared. Python's bytecode
is compiled in advance, by the image's own Python, since a container's file system is read-only. Then the image is
written as build/image/image.tar (scripts/oci_archive.py), with what the Dockerfile says of user, environment and command.

Layers that have not changed are kept from a build before; `--fresh` makes all again, with Debian's newest security
updates. Needs mmdebstrap, root or user namespaces, and runs on the architecture that the image is for. The exit code
is 0, or 1 with one sentence that says what is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "image"
sys.path.insert(0, str(ROOT))

from scripts.oci_archive import ImageConfig, Layer, pack, write_archive  # noqa: E402 - found by the line above

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SUITE = "bookworm"
PYTHON = "3.11"
"""Debian's Python of the suite, and the oldest that dapr-shared supports: the one that its tests run with."""
DEBIAN_PACKAGES = (f"python{PYTHON}", "ca-certificates", "libstdc++6", "media-types", "netbase", "tzdata")
USER = 65532
"""User and group of a container: neither root nor one of the machine's own."""
REQUIREMENTS = ROOT / "requirements" / "image.txt"
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_UNWANTED = (
    *("bin", "sbin", "usr/sbin", "usr/games", "var/cache", "var/log", "etc/apt", "etc/dpkg", "usr/libexec"),
    *("usr/share/doc-base", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian"),
    *("usr/share/perl5", "usr/share/debconf", "usr/share/dpkg", "usr/share/pixmaps", "usr/share/bug"),
    *("usr/share/bash-completion", "usr/share/polkit-1", "usr/share/applications", "usr/share/binfmts"),
    *("usr/lib/dpkg", "usr/lib/apt", "lib/systemd", "etc/logrotate.d", "etc/cron.daily", "etc/alternatives"),
    *(f"usr/lib/python{PYTHON}/{name}" for name in ("test", "idlelib", "lib2to3", "pydoc_data", "turtle.py")),
    *("usr/lib/x86_64-linux-gnu/gconv", "usr/lib/aarch64-linux-gnu/gconv", "usr/share/zoneinfo/right"),
    *(f"usr/lib/python{PYTHON}/{name}" for name in ("ensurepip", "tkinter", "turtledemo", "distutils/command")),
)
_SOURCES_OF_LIBRARIES = (".pyi", ".pyx", ".pxd", ".pxi", ".c", ".cc", ".cpp", ".h", ".hpp")
_LAUNCHER = "#!/usr/bin/python{python} -IB\nimport sys\n\nfrom {module} import main\n\nsys.exit(main())\n"


class ImageError(Exception):
    """The image cannot be built; the message says why and what to do."""


def main(words: Sequence[str] | None = None) -> int:
    """Build the image; the exit code."""
    parser = argparse.ArgumentParser(description="Build the container image without a container engine.")
    parser.add_argument("--name", default=f"localhost/dapr-shared:{_version()}", help="registry/name:tag")
    parser.add_argument("--archive", type=Path, default=FOLDER / "image.tar", help="the file of the image")
    parser.add_argument("--fresh", action="store_true", help="make every layer again")
    given = parser.parse_args(words)
    try:
        build(given.name, given.archive, fresh=given.fresh)
    except (ImageError, OSError, tarfile.TarError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


def build(name: str, archive: Path, folder: Path = FOLDER, *, fresh: bool = False) -> None:
    """Make the layers that `folder` does not have yet, and the archive."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    debian = _layer(folder, "debian", [SUITE, *DEBIAN_PACKAGES, _text(__file__)], _debian, seconds, fresh=fresh)
    needed = [_text(REQUIREMENTS), _text(__file__), hashlib.sha256(debian).hexdigest()]
    packages = _layer(folder, "packages", needed, _packages, seconds, fresh=fresh)
    own = _layer(folder, "dapr-shared", [*needed, _sources()], _dapr_shared, seconds, fresh=fresh)
    layers = [Layer.of(blob) for blob in (debian, packages, own)]
    write_archive(archive, name, layers, read_dockerfile(ROOT / "Dockerfile"), _architecture(), seconds)
    unpacked = sum(layer.size for layer in layers) / 1e6
    print(f"{archive}: {name}, {archive.stat().st_size / 1e6:.0f} MB, {unpacked:.0f} MB unpacked")


def read_dockerfile(file: Path) -> ImageConfig:
    """The instructions that say how a container starts."""
    found: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction in {"ENV", "WORKDIR", "USER", "EXPOSE", "CMD"}:
            found[instruction] = rest
    labels = {
        "org.opencontainers.image.title": "dapr-shared",
        "org.opencontainers.image.version": _version(),
        "org.opencontainers.image.licenses": "Apache-2.0",
    }
    return ImageConfig(
        command=json.loads(found["CMD"]),
        environment=shlex.split(found["ENV"]),
        user=found["USER"],
        directory=found["WORKDIR"],
        ports=[int(port) for port in found["EXPOSE"].split()],
        labels=labels,
    )


def _layer(
    folder: Path,
    name: str,
    inputs: Sequence[str],
    make: Callable[[Path, Path], dict[str, int]],
    seconds: int,
    *,
    fresh: bool,
) -> bytes:
    """A layer's gzipped tar: the one that is there if it was made from the same inputs, else a new one."""
    file, mark = folder / f"{name}.tar.gz", folder / f".{name}.inputs"
    digest = hashlib.sha256(json.dumps([*inputs, seconds]).encode()).hexdigest()
    if not fresh and file.exists() and mark.exists() and mark.read_text(encoding="utf-8") == digest:
        return file.read_bytes()
    print(f"{name}: building …", flush=True)
    with tempfile.TemporaryDirectory(prefix="dapr-shared-image-") as made:
        root = Path(made) / "root"
        root.mkdir()
        owners = make(root, folder)
        blob = pack(root, {path: (user, user) for path, user in owners.items()}, seconds)
    mark.unlink(missing_ok=True)
    file.write_bytes(blob)
    mark.write_text(digest, encoding="utf-8")
    print(f"{name}: {len(blob) / 1e6:.1f} MB", flush=True)
    return blob


def _debian(root: Path, _folder: Path) -> dict[str, int]:
    """Debian's packages unpacked, cut to what Python needs, with users, certificates and empty folders."""
    if shutil.which("mmdebstrap") is None:
        raise ImageError("needs mmdebstrap: apt install mmdebstrap")
    archive = root.parent / "debian.tar"
    chosen = ["--variant=extract", f"--include={','.join(DEBIAN_PACKAGES)}", "--skip=cleanup/apt/cache"]
    _run(["mmdebstrap", "--quiet", *chosen, SUITE, str(archive)])
    with tarfile.open(archive) as unpacked:
        members = [entry for entry in unpacked if not entry.isdev()]
        unpacked.extractall(root, members, filter="tar")
    _list_packages(root)
    for name in _UNWANTED:
        _remove(root / name)
    for program in (root / "usr/bin").iterdir():
        if program.name != f"python{PYTHON}":
            program.unlink()
    for page in (root / "usr/share/doc").rglob("*"):
        if not page.is_dir() and page.name != "copyright":
            page.unlink()
    (root / "usr/bin/python3").symlink_to(f"python{PYTHON}")
    bundle = "".join(_text(file) for file in sorted((root / "usr/share/ca-certificates").rglob("*.crt")))
    _write(root / "etc/ssl/certs/ca-certificates.crt", bundle)
    _write(root / "etc/passwd", f"root:x:0:0:root:/:/\nnonroot:x:{USER}:{USER}:nonroot:/data:/\n")
    _write(root / "etc/group", f"root:x:0:\nnonroot:x:{USER}:\n")
    _write(root / "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    for name in ("proc", "sys", "dev", "tmp", "run", "data"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    compile_python(root, root / f"usr/lib/python{PYTHON}", f"/usr/lib/python{PYTHON}")
    return {"data": USER}


def _list_packages(root: Path) -> None:
    """Say in the image which packages it has, where scanners look for it."""
    status = root / "var/lib/dpkg/status.d"
    debs = sorted((root / "var/cache/apt/archives").glob("*.deb"))
    _remove(root / "var/lib/dpkg")
    for deb in debs:
        about = subprocess.run(["dpkg-deb", "-f", str(deb)], check=True, capture_output=True, text=True).stdout
        _write(status / deb.name.partition("_")[0], about)
    if not debs:
        raise ImageError("mmdebstrap has left no packages to list: another version of it?")


def _packages(root: Path, folder: Path) -> dict[str, int]:
    """The pinned Python packages."""
    base = _unpacked(folder, root)
    install(base, REQUIREMENTS, root / _SITE)
    compile_python(base, root / _SITE, f"/{_SITE}")
    return {}


def install(debian: Path, requirements: Path, target: Path) -> None:
    """Install pinned packages into a folder, without what only their compilation needs.

    By the Python of the image (`debian` is its first layer), because requirements and wheels depend on its exact version.
    """
    pip = importlib.util.find_spec("pip")
    if pip is None or pip.origin is None:
        raise ImageError(f"needs pip in {sys.executable}: make environment-dev")
    library = debian.parent / "pip"
    library.mkdir(exist_ok=True)
    (library / "pip").symlink_to(Path(pip.origin).parent)
    quiet = ["-q", "--disable-pip-version-check", "--root-user-action=ignore"]
    pinned = ["--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes", "-r", str(requirements)]
    _run_python(
        debian, ["-m", "pip", "install", *quiet, *pinned, "--target", str(target)], {"PYTHONPATH": str(library)}
    )
    _remove(target / "bin")
    for path in sorted(target.rglob("*")):
        if path.suffix in _SOURCES_OF_LIBRARIES or (path.name in {"tests", "test"} and path.is_dir()):
            _remove(path)


def _dapr_shared(root: Path, folder: Path) -> dict[str, int]:
    """The project as its wheel has it, and its two programs."""
    wheels = root.parent / "wheels"
    _pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(ROOT))
    (wheel,) = wheels.glob("*.whl")
    target = root / _SITE
    _pip("install", "--no-deps", "--no-compile", "--target", str(target), str(wheel))
    _remove(target / "bin")
    for name, module in (("dapr-shared", "dapr_shared.cli.main"), ("daprd", "dapr_shared.cli.daprd")):
        program = root / name
        program.write_text(_LAUNCHER.format(python=PYTHON, module=module), encoding="utf-8")
        program.chmod(0o755)
        (root / "usr/bin").mkdir(parents=True, exist_ok=True)
        (root / "usr/bin" / name).symlink_to(f"/{name}")
    compile_python(_unpacked(folder, root), target, f"/{_SITE}")
    return {}


_SITE = f"usr/local/lib/python{PYTHON}/dist-packages"


def _unpacked(folder: Path, root: Path) -> Path:
    """The first layer, for its Python."""
    base = root.parent / "debian"
    with tarfile.open(folder / "debian.tar.gz") as layer:
        layer.extractall(base, filter="tar")
    return base


def compile_python(debian: Path, what: Path, shown: str) -> None:
    """Compile to bytecode that is never checked against its source; `shown` is the path that tracebacks say."""
    words = ["-m", "compileall", "-q", "-f", "--invalidation-mode=unchecked-hash", "-s", str(what), "-p", shown]
    _run_python(debian, [*words, str(what)])


def _run_python(debian: Path, words: Sequence[str], environment: dict[str, str] | None = None) -> None:
    """Run the image's Python, on the machine that builds and without root."""
    machine = _MACHINES[_architecture()]
    libraries = ":".join(str(debian / place / f"{machine}-linux-gnu") for place in ("lib", "usr/lib"))
    (loader,) = (debian / ("lib64" if machine == "x86_64" else "lib")).glob("ld-linux-*.so.*")
    python = [str(loader), "--library-path", libraries, str(debian / f"usr/bin/python{PYTHON}"), "-sB"]
    _run([*python, *words], {**os.environ, "PYTHONHOME": str(debian / "usr"), **(environment or {})})


def _pip(*words: str) -> None:
    _run([sys.executable, "-m", "pip", words[0], "-q", "--disable-pip-version-check", *words[1:]])


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, check=False, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise ImageError(f"{' '.join(command[:3])} … ended with {done.returncode}; its own words are above")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _text(file: str | Path) -> str:
    return Path(file).read_text(encoding="utf-8")


def _sources() -> str:
    """A digest of everything that the wheel is made of."""
    digest = hashlib.sha256()
    files = [*(ROOT / "src").rglob("*"), ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE"]
    for file in sorted(files):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(ROOT)}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _version() -> str:
    return tomllib.loads(_text(ROOT / "pyproject.toml"))["project"]["version"]


def _architecture() -> str:
    machine = os.uname().machine
    found = next((name for name, known in _MACHINES.items() if known == machine), None)
    if found is None:
        raise ImageError(f"no image for {machine}: only for {', '.join(_MACHINES.values())}")
    return found


if __name__ == "__main__":
    sys.exit(main())
