"""`dapr-shared --version`: the versions of what a report of a problem needs."""

from __future__ import annotations

import platform
from importlib import metadata

import dapr_shared
from dapr_shared.cli.output import Format, as_text, write

PACKAGES = (
    "uvloop", "httptools", "grpcio", "protobuf", "msgspec", "orjson", "apsw", "cel-expr-python",
    "cryptography", "redis", "asyncpg", "opentelemetry-sdk",
)  # fmt: skip
"""What the instance is made of, optional libraries among it."""


def versions() -> dict[str, str]:
    """Names and versions; what is not installed is left out."""
    found = {
        "dapr-shared": dapr_shared.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def show_versions(form: Format) -> int:
    """Write them; the first line is `dapr-shared VERSION`."""
    found = versions()
    if form is not Format.TABLE:
        write(as_text(found, form))
        return 0
    write("".join(f"{name} {version}\n" for name, version in found.items()))
    return 0
