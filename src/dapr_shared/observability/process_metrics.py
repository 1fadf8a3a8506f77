"""Metrics of the process itself, under the names that Prometheus clients use; read on scrape.

Beside both roads. Linux tells all of them (`/proc/self`), other systems the processor time.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dapr_shared.observability.metrics import Registry

_PROC = Path("/proc")


def add_process_metrics(registry: Registry, *, proc: Path = _PROC) -> None:
    """Make the families and read them at every scrape. `proc` is where the proc file system is."""
    cpu = registry.counter("process_cpu_seconds_total", "User and system processor time of the process, in seconds.")
    resident = registry.gauge("process_resident_memory_bytes", "Memory of the process that is in RAM.")
    virtual = registry.gauge("process_virtual_memory_bytes", "Address space of the process.")
    open_files = registry.gauge("process_open_fds", "Open file descriptors, sockets among them.")
    maximum_files = registry.gauge("process_max_fds", "Most file descriptors that the process may open.")
    started = registry.gauge("process_start_time_seconds", "When the process started, in seconds since 1970, UTC.")
    threads = registry.gauge("process_threads", "Threads of the process.")

    def read() -> None:
        used = os.times()
        cpu.child().value = used.user + used.system
        if sys.platform != "linux":
            return
        try:
            # The command's name, in parentheses, may hold blanks: the numbers start behind the last parenthesis.
            fields = (proc / "self/stat").read_text().rpartition(")")[2].split()
            boot = _boot_time(proc)
            files = len(os.listdir(proc / "self/fd")) - 1  # noqa: PTH208 - one of them is the listing itself
        except (OSError, ValueError):
            return
        threads.child().set(int(fields[17]))
        started.child().set(boot + int(fields[19]) / os.sysconf("SC_CLK_TCK"))
        virtual.child().set(int(fields[20]))
        resident.child().set(int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
        open_files.child().set(files)
        maximum_files.child().set(_maximum_files())

    registry.on_scrape(read)


def _boot_time(proc: Path) -> float:
    for line in (proc / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line[6:])
    return time.time() - time.monotonic()


def _maximum_files() -> float:
    import resource  # noqa: PLC0415 - Windows has no such module

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return float("inf") if soft == resource.RLIM_INFINITY else soft
