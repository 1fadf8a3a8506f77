"""What a name resolver promises: where the instance or sidecar that serves an app listens for others.

Step 6c of the request road, before a peer is called. A resolver is chosen by `spec.nameResolution` of the instance's
Configuration and is no Component: apps cannot name it. Facts: reference behaviours §9, components §10.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

from dapr_shared.contracts.settings import Settings

if TYPE_CHECKING:
    from dapr_shared.core.ids import AppRef

S = TypeVar("S", bound=Settings)

CLUSTER_DOMAIN: Final = "cluster.local"
"""DNS domain of a Kubernetes cluster that says nothing else."""


class ResolveError(Exception):
    """No address is known for an app; the message says which name was asked for, and why it has none."""


class NameResolver(ABC, Generic[S]):
    """Makes addresses of app ids. Construction has no side effects; raises `SettingError` for settings that are wrong."""

    settings_type: ClassVar[type[Settings]]
    """The class that `nameResolution.configuration` is decoded to."""
    cache_seconds: ClassVar[float] = 0.0
    """How long an answer may be used again; 0: ask each time, as it costs nothing."""

    def __init__(self, settings: S, *, port: int, cluster_domain: str = CLUSTER_DOMAIN) -> None:
        """`port` is this instance's own port for others, which the others are assumed to have too (as in Dapr).

        `cluster_domain` is the DNS domain of its cluster, for resolvers whose settings name none.
        """
        self.settings = settings
        self.port = port
        self.cluster_domain = cluster_domain

    @abstractmethod
    def target(self, app: AppRef) -> str:
        """`host:port` of the app's peers; the host is a name, which stands for all of them, or an address.

        The names are looked up by who calls this (`mesh/names.py`). Raises `ResolveError`.
        """
