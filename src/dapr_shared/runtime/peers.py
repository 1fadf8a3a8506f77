"""Calls between instances, put together: which port others call, and how apps of others are found.

Assembly of the invoke block and of the front door for peers. Facts: reference daprd-flags §2, behaviours §9.
"""

from __future__ import annotations

import hashlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from dapr_shared.components.nameresolution.table import NameResolutionError, make_resolver
from dapr_shared.mesh.peers import Peers
from dapr_shared.runtime.cluster_domain import cluster_domain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.apps import AppRegistry
    from dapr_shared.observability.events import Events
    from dapr_shared.resources.model import Configuration
    from dapr_shared.runtime.settings import Settings

INTERNAL_PORT: Final = 50002
"""Where peers listen in a cluster, unless `--dapr-internal-grpc-port` says otherwise."""
_FIRST_STABLE: Final = 47_300
_STABLE_PORTS: Final = 65_535 - _FIRST_STABLE


class ServedApps:
    """The apps of this instance, as calls of others name them."""

    def __init__(self, apps: AppRegistry) -> None:
        self._apps = apps

    def single(self) -> AppRef | None:
        """The one app of single-app mode."""
        record = self._apps.single
        return record.ref if record is not None else None

    def named(self, app_id: str) -> Sequence[AppRef]:
        """The apps of an id, one a namespace."""
        return self._apps.named(app_id)


def internal_ports(settings: Settings) -> Sequence[int]:
    """The ports to try for others to call, the first that is free counts (0: any); empty: others cannot call.

    With `--app-id` alone as daprd does. An instance for many apps opens a port only where one is asked for, or in a
    cluster: nobody proves who he is at it.
    """
    if settings.dapr_internal_grpc_port:
        return (settings.dapr_internal_grpc_port,)
    if settings.in_cluster:
        return (INTERNAL_PORT,) if not settings.single_app else (stable_port(settings.app_id), 0)
    return (stable_port(settings.app_id), 0) if settings.single_app else ()


def stable_port(app_id: str) -> int:
    """The port that daprd takes for an app that asks for none: the same each time for one app, folder, user and machine."""
    seed = "|".join((app_id, str(os.getcwd()), str(_user()), socket.gethostname()))  # noqa: PTH109 - the text counts
    return _FIRST_STABLE + int.from_bytes(hashlib.sha256(seed.encode()).digest()[:2], "little") % _STABLE_PORTS


def make_peers(
    settings: Settings, configuration: Configuration | None, events: Events, *, body_limit: int
) -> Peers | None:
    """How apps of other instances are called; `None`: there is no name resolution.

    A resolver that cannot be made is told and left out, as in daprd: what needs none goes on.
    """
    spec: Any = (configuration.spec.get("nameResolution") if configuration else None) or {}
    default = "kubernetes" if settings.in_cluster else ""
    port = settings.dapr_internal_grpc_port or INTERNAL_PORT
    try:
        resolver = make_resolver(spec, port=port, default=default, cluster_domain=cluster_domain(settings))
    except NameResolutionError as error:
        where = f"{configuration.origin}: " if configuration else ""
        events.name_resolution_missing(f"{where}{error}")
        return None
    return Peers(resolver, body_limit=body_limit, forwarded=forwarded()) if resolver is not None else None


def forwarded() -> Mapping[str, str]:
    """What daprd adds to the headers of a call of a peer (reference http-api §3): where it passed through."""
    address, name = _host_address(), socket.gethostname()
    quoted = f'"[{address}]"' if ":" in address else address  # RFC 7239
    parts = [f"for={quoted};by={quoted}"] if address else []
    made = {"X-Forwarded-For": address} if address else {}
    if name:
        parts.append(f"host={name}")
        made["X-Forwarded-Host"] = name
    return {**made, "Forwarded": ";".join(parts)}


def _host_address() -> str:
    """The address of this machine that others see: the pod's, else the one that packets would leave from."""
    for variable in ("DAPR_HOST_IP", "POD_IP"):
        if os.environ.get(variable):
            return os.environ[variable]
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # of documentation; a datagram socket sends nothing when it connects
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def _user() -> int:
    getuid = getattr(os, "getuid", None)
    return getuid() if getuid is not None else -1
