"""`dapr-shared init [DIR]`: a folder with two small apps that works as it stands with `dapr-shared run -f DIR`.

The files are those of `starter/`, with the ports and the Python of this machine filled in. Nothing that exists is
overwritten unless that is asked for, and then each file is replaced as a whole.
"""

from __future__ import annotations

import os
import shutil
import socket
import string
import sys
from importlib import resources
from pathlib import Path

from dapr_shared.cli.output import Format, as_text, write
from dapr_shared.cli.problem import USAGE, CommandError

FILES = {
    "dapr.yaml": "dapr.yaml.template",
    "README.md": "README.md.template",
    ".gitignore": "gitignore.template",
    "resources/statestore.yaml": "resources/statestore.yaml.template",
    "resources/pubsub.yaml": "resources/pubsub.yaml.template",
    "resources/subscription.yaml": "resources/subscription.yaml.template",
    "orders/app.py": "orders/app.py.template",
    "mail/app.py": "mail/app.py.template",
}
"""What is written, and the template of each."""
_LAST_PORT = 65535
_PORTS_LOOKED_AT = 200


def init(directory: str, form: Format, *, force: bool, port: int) -> int:
    """Write the folder. Raises `CommandError` where it would overwrite something, or cannot be written."""
    folder = Path(directory)
    if not 1 <= port <= _LAST_PORT:
        raise CommandError(f"--port {port}: a port is between 1 and {_LAST_PORT}", USAGE)
    try:
        _refuse_to_overwrite(folder, force=force)
        ports = _free_ports(port)
        for name, template in FILES.items():
            _write(folder / name, _text(template, ports), force=force)
    except OSError as error:
        raise CommandError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from error
    if form is not Format.TABLE:
        write(
            as_text(
                {"folder": str(folder), "files": sorted(FILES), "ports": dict(zip(_APPS, ports, strict=True))}, form
            )
        )
        return 0
    where = "." if folder == Path() else str(folder)
    write(
        f"Two apps, orders and mail, are in {folder.absolute()}. Start them with the instance that serves both:\n\n"
        f"  dapr-shared run -f {where}\n\n"
        "and in a second terminal:\n\n"
        f"  curl -s -H 'content-type: application/json' -d '{{\"item\": \"tea\"}}' http://127.0.0.1:{ports[0]}/orders\n"
        f"  curl -s http://127.0.0.1:{ports[1]}/mails\n"
        "  dapr-shared doctor\n\n"
        "README.md there says the rest.\n"
    )
    return 0


_APPS = ("orders", "mail")


def _refuse_to_overwrite(folder: Path, *, force: bool) -> None:
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise CommandError(f"{folder} is not a directory: name another one")
    there = [name for name in FILES if os.path.lexists(folder / name)]
    if there and not force:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise CommandError(
            f"{folder / there[0]} exists already{more}: name another directory, or overwrite with --force"
        )


def _free_ports(first: int) -> tuple[int, int]:
    """Two ports of loopback that nobody listens on now, the lowest from the first on."""
    found: list[int] = []
    for port in range(first, min(first + _PORTS_LOOKED_AT, _LAST_PORT + 1)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == len(_APPS):
            return found[0], found[1]
    raise CommandError(f"no two ports are free from {first} on: choose another with --port")


def _text(template: str, ports: tuple[int, int]) -> str:
    text = resources.files("dapr_shared.cli").joinpath("starter", template).read_text(encoding="utf-8")
    if template.endswith(".py.template"):  # Python's own `$` and braces stay as they are
        return text
    return string.Template(text).safe_substitute(ORDERS_PORT=ports[0], MAIL_PORT=ports[1], PYTHON=_python())


def _python() -> str:
    """`python3` where there is one on the path, else the Python that runs this."""
    return "python3" if shutil.which("python3") else sys.executable


def _write(path: Path, text: str, *, force: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not force:
        with path.open("x", encoding="utf-8") as stream:  # made meanwhile by somebody else: an error, not a loss
            stream.write(text)
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
