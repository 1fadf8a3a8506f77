"""A machine of its own for containers: namespaces of processes and mounts, with a containerd in them.

The first process of the namespace is `init`: with it, the kernel ends everything on the machine at once, as a loss of
power does, and nothing of it is left on the real one. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.kubernetes_programs import Child
from tests.support.required import need, need_command

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 60.0
"""Seconds that containerd, or one command of it, may take."""
_FOLDERS = ("/var/lib/containerd", "/run/containerd", "/var/lib/cni", "/etc/cni/net.d", "/run/netns")
_CONTAINERD = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


def need_containers() -> None:
    """`need` for root, containerd and runc."""
    need(os.geteuid() == 0, "root (containers)")
    for name in ("containerd", "runc", "ctr"):
        need_command(name, "runc" if name == "runc" else "containerd")


class Machine:
    """Started with `start`, ended with `kill`; `folder` has its disks and logs."""

    def __init__(self, folder: Path, name: str, network: Sequence[str] = ()) -> None:
        """`network` are words that enter a network namespace; without them the machine has the real one's."""
        self.name, self._folder, self._network = name, folder / name, network
        self._folder.mkdir(parents=True, exist_ok=True)
        self._child: Child | None = None
        self._first = 0

    def start(self, binds: dict[str, Path] | None = None, programs: Sequence[str] = ()) -> None:
        """Start containerd, then the lines of shell in `programs`; `binds` are mounted at the places that they name."""
        for name in ("unshare", "nsenter", "mount"):
            need_command(name, "util-linux mount")
        (self._folder / "containerd.toml").write_text(_CONTAINERD, encoding="utf-8")
        script = self._folder / "init.sh"
        script.write_text("\n".join(self._script(binds or {}, programs)), encoding="utf-8")
        inside = ["unshare", "--mount", "--pid", "--kill-child=KILL", "--mount-proc", "bash", str(script)]
        self._child = Child("init", [*self._network, *inside], self._folder)
        self._child.wait_until(self._answers, PATIENCE)

    def kill(self) -> None:
        """End everything on it at once; its disks stay."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, AssertionError):
                os.kill(self._init(), signal.SIGKILL)
            self._child.kill()
            self._child, self._first = None, 0

    def remove(self) -> None:
        """End it and remove its disks."""
        self.kill()
        shutil.rmtree(self._folder / "disks", ignore_errors=True)

    def run(self, *command: str, patience: float = PATIENCE) -> str:
        """What a command on the machine prints."""
        done = subprocess.run(self.words(*command), capture_output=True, text=True, check=False, timeout=patience)
        assert done.returncode == 0, f"{self.name}: {shlex.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def words(self, *command: str) -> list[str]:
        """The command line that runs a command on the machine."""
        network = ["--net"] if self._network else []
        return ["nsenter", "--target", str(self._init()), "--mount", "--pid", *network, *command]

    def log(self, name: str) -> str:
        """The log of one of its programs."""
        return (self._folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def _init(self) -> int:
        """The first process of the machine, as the real one numbers it."""
        if not self._first:
            assert self._child is not None, f"the machine {self.name} is off"
            parent = self._child.process.pid
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8").split()
            assert children, f"{self.name} has no process yet"
            self._first = int(children[0])
        return self._first

    def _answers(self) -> bool:
        try:
            self.run("ctr", "version")
        except AssertionError:
            return False
        return True

    def _script(self, binds: dict[str, Path], programs: Sequence[str]) -> list[str]:
        disks = {place: self._folder / "disks" / place.strip("/").replace("/", "-") for place in _FOLDERS}
        for disk in disks.values():
            disk.mkdir(parents=True, exist_ok=True)
        lines = ["set -e", "mount --make-rprivate /"]
        for place, source in {**disks, **binds}.items():
            create = "mkdir -p" if source.is_dir() else ": mkdir"
            lines += [f"{create} {place}", f"mount --bind {shlex.quote(str(source))} {place}"]
        lines += ["mount --make-rshared /", f"cd {shlex.quote(str(self._folder))}"]
        lines += ["containerd --config containerd.toml >>containerd.log 2>&1 &"]
        lines += ["until ctr version >/dev/null 2>&1; do sleep 0.1; done", *programs]
        return [*lines, "wait", ""]
