"""Evidence, and the `Caller` that it proves.

Step 2 of the request road. A caller is made by `AppRegistry` and nowhere else; what a request merely claims
(headers, paths) never becomes one (design §5.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources.model import App, Configuration


class Evidence(StrEnum):
    """What proved an app."""

    SINGLE_APP = "single-app"
    """The instance was started for this one app (`--app-id`)."""
    TOKEN = "token"  # noqa: S105 - a name
    """The request carried one of the app's API tokens."""
    LISTENER = "listener"
    """The request came in at a loopback port or socket that belongs to the app."""
    OPERATOR = "operator"
    """The operator of the instance acts as the app, through the operators' socket (mode 0600). An audit event each time."""
    CERTIFICATE = "certificate"
    """The connection's client certificate, verified at the handshake, has a name or the fingerprint of the app."""
    POD = "pod"
    """A service account token, verified by the cluster, is bound to a pod whose annotation names the app."""
    SERVICE_ACCOUNT = "service-account"
    """A service account token, verified by the cluster, is of the service account that the App names."""
    ADDRESS = "address"
    """The connection comes from the address of a pod on the same node (`--identify-by-address`)."""
    CHANNEL = "channel"
    """The instance called the app at its own channel, and this is in the answer."""


@dataclass(frozen=True, slots=True)
class ListenerIdentity:
    """What the wire is given for a listener, and hands back with each request that the listener accepted."""

    name: str
    """For logs: `http`, `grpc`, `public`, `app orders http`."""
    app: AppRef | None = None
    """The app that the listener belongs to; `None` for the listeners that all apps share."""


@dataclass(frozen=True, slots=True)
class OperatorIdentity:
    """In place of a `ListenerIdentity`: the request came in at the operators' socket, whose user acts as this app.

    Only the operators' door makes one; no listener of the wire carries it.
    """

    app: AppRef


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredApp:
    """One app that this instance serves."""

    ref: AppRef
    app: App
    configuration: Configuration | None = None
    given_namespace: str = ""
    """The namespace, where one was given; empty where `default` was assumed (key prefix `namespace`, behaviours §2)."""
    token_digests: frozenset[bytes] = frozenset()
    """SHA-256 digests of the tokens that prove it."""


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """The app that a request has proved. Every block method takes one first."""

    record: RegisteredApp
    evidence: tuple[Evidence, ...]
    # Fields, not properties: a caller is made once an app, and read up to a dozen times a request (12 calls of an invocation).
    ref: AppRef = field(init=False)
    """The app."""
    app_id: str = field(init=False)
    """The app id."""
    namespace: str = field(init=False)
    """The namespace of the app."""

    def __post_init__(self) -> None:
        ref = self.record.ref
        for name, value in (("ref", ref), ("app_id", ref.app_id), ("namespace", ref.namespace)):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class ClaimedCaller:
    """Who a call from another instance says that it comes from: told to the app and counted, never a reason to allow it.

    Nothing proves it without mTLS between instances, as between daprd sidecars (reference internal §2).
    """

    app_id: str
    """Empty: it does not say."""
    namespace: str
