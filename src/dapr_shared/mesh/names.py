"""From an app to the address of one of its peers: the resolver says a name, DNS says which addresses it stands for.

Step 6c of the request road. Lookups block, so they have threads of their own: names that nobody answers for take none of
those that the rest of the process uses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from dapr_shared.contracts.nameresolution import NameResolver, ResolveError
from dapr_shared.core.ids import AppRef, app_id_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Lookup: TypeAlias = "Callable[[str], Sequence[str]]"

_THREADS: Final = 4
_WAITING: Final = 256
"""Names that are looked up at a time; a further one is refused."""
_PATIENCE: Final = 5.0
"""Seconds for one lookup."""
_FAILED_SECONDS: Final = 1.0
"""How long a name without an address is not asked for again."""
_KEPT: Final = 10_000
_namespace = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?").fullmatch


class PeerNames:
    """Addresses of apps, remembered for as long as the resolver says."""

    def __init__(self, resolver: NameResolver[Any], *, lookup: Lookup | None = None) -> None:
        self._resolver = resolver
        self._lookup = lookup or look_up
        self._threads: ThreadPoolExecutor | None = None
        self._known: dict[AppRef, tuple[float, Sequence[str] | ResolveError]] = {}
        self._asking: dict[AppRef, asyncio.Task[Sequence[str]]] = {}

    async def address(self, app: AppRef) -> str:
        """`host:port` of one of the app's peers, chosen at random. Raises `ResolveError`."""
        now = asyncio.get_running_loop().time()
        found = self._known.get(app)
        if found is None or found[0] <= now:
            addresses = await self._ask(app)
        elif isinstance(found[1], ResolveError):
            raise ResolveError(str(found[1])) from found[1]
        else:
            addresses = found[1]
        return addresses[0] if len(addresses) == 1 else random.choice(addresses)  # noqa: S311 - spreads load

    def forget(self, app: AppRef) -> None:
        """Look the name up again for the next call: the address was of no use."""
        self._known.pop(app, None)

    def close(self) -> None:
        """End the lookups; none can be made any more."""
        for task in self._asking.values():
            task.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, app: AppRef) -> Sequence[str]:
        """Callers that ask for one app at a time share the answer; one that goes away takes nothing from the others."""
        task = self._asking.get(app)
        if task is None:
            host, port = _split(self._target(app))
            if _is_address(host):
                return (f"{host}:{port}",)
            if len(self._asking) >= _WAITING:
                raise ResolveError(
                    f"failed to resolve address for '{host}': {_WAITING} other names are being looked up"
                )
            task = asyncio.get_running_loop().create_task(self._addresses(app, host, port), name=f"lookup of {app}")
            self._asking[app] = task
            task.add_done_callback(lambda ended: self._answered(app, ended))
        return await asyncio.shield(task)

    def _answered(self, app: AppRef, ended: asyncio.Task[Sequence[str]]) -> None:
        self._asking.pop(app, None)
        if not ended.cancelled():
            ended.exception()  # all who asked may have gone meanwhile

    def _target(self, app: AppRef) -> str:
        """What the resolver makes of an app id that cannot be more than a part of a name."""
        problem = app_id_problem(app.app_id)
        if problem is None and not _namespace(app.namespace):
            problem = f"{app.namespace!r} is not a namespace"
        if problem is not None:
            raise ResolveError(problem)
        return self._resolver.target(app)

    async def _addresses(self, app: AppRef, host: str, port: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="peer-names")
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await loop.run_in_executor(self._threads, self._lookup, host)
        except (OSError, UnicodeError) as error:  # a timeout is an OSError too
            why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            failure = ResolveError(f"failed to resolve address for '{host}': {why}")
            self._keep(app, loop.time() + _FAILED_SECONDS, failure)
            raise failure from error
        addresses = [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in found]
        if self._resolver.cache_seconds:
            self._keep(app, loop.time() + self._resolver.cache_seconds, addresses)
        return addresses

    def _keep(self, app: AppRef, until: float, what: Sequence[str] | ResolveError) -> None:
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[app] = (until, what)


def look_up(host: str) -> Sequence[str]:
    """The addresses of a name, at least one, IPv4 and IPv6, by the system's resolver. Blocks.

    Raises `OSError`, `UnicodeError`.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _split(target: str) -> tuple[str, str]:
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal():
        raise ResolveError(f"the name resolver says {target!r}, which is not host:port")
    return host, port


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
