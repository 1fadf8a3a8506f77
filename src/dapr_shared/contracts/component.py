"""What every component is: made from settings, started on an exit stack, closed by it.

Last step of the request road and first of the delivery road.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

from dapr_shared.contracts.settings import Settings
from dapr_shared.core.clock import Clock, SystemClock
from dapr_shared.core.ids import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

S = TypeVar("S", bound=Settings)

UNKNOWN_LOCATION: Final = ""
"""The answer of `Component.data_location` that might be any place."""


class BackendError(Exception):
    """A backend refused or failed a call; the message is for the caller and holds no secret.

    Adapters raise it `from` the client library's own error.
    """


class BackendUnavailableError(BackendError):
    """The backend could not be reached; the call may be sent again."""


@dataclass(frozen=True, slots=True)
class ComponentContext:
    """What an adapter may know about where it runs."""

    name: str
    """The component's name in its resource."""
    type: str
    """For example `state.sqlite`."""
    version: str = "v1"
    namespace: str = DEFAULT_NAMESPACE
    app_id: str | None = None
    """The one app that this instance of the component is for; `None` where all apps share it (the rule)."""
    single_app: bool = False
    """Whether the whole instance serves one app, as a sidecar does: then what daprd allows that app is allowed."""
    clock: Clock = field(default_factory=SystemClock)
    private: Path | None = None
    """The instance's own folder, where no app's files may be."""


class Component(ABC, Generic[S]):
    """A named, configured backend of a building block.

    Construction has no side effects. `start` opens what is needed and puts the closing of it on the stack: after a
    failure or a cancellation midway, unwinding the stack leaves nothing open. A component is started at most once.
    Unwinding twice, or while calls are running, is safe: those calls fail with `BackendError`.
    """

    settings_type: ClassVar[type[Settings]]
    """The class that its metadata is decoded to."""
    capabilities: ClassVar[frozenset[str]] = frozenset()
    """What it can do beyond its contract's minimum. The only declaration: documentation, the metadata API and the
    conformance suite read it."""

    waits_for: str = ""
    """While `start` runs: what it waits for. Told when the time for starting (`spec.initTimeout`) is over."""

    def __init__(self, settings: S, context: ComponentContext) -> None:
        self.settings = settings
        self.context = context

    def effective_capabilities(self) -> frozenset[str]:
        """What this one can do with its settings: all of `capabilities`, unless a setting switches some off."""
        return type(self).capabilities

    @property
    def calls_at_a_time(self) -> int:
        """How many calls it carries out at a time, where further ones wait; 0, the default: it has no such bound.

        Apps that share it then take turns (`contracts/turns.py`).
        """
        return 0

    def data_location(self) -> str | None:
        """Where it keeps what apps give it, told from its settings alone: nothing is opened or asked.

        Two components with one text share their data, whatever else differs in their settings: the text names what is
        reached (resolved file and table; host, port and database), never how, and no secret. `None`: the data belongs
        to this component alone. `UNKNOWN_LOCATION`, the default: it cannot tell, so any other may share it.
        """
        return UNKNOWN_LOCATION

    @abstractmethod
    async def start(self, stack: AsyncExitStack) -> None:
        """Connect. Raises `BackendError` with what is wrong and what to do."""

    async def ping(self) -> None:
        """Check that the backend answers. Raises `BackendError`. Nothing to check by default."""

    async def backend_time(self) -> float | None:
        """The backend's own clock in seconds since 1970, for `doctor`; `None`, the default: it goes by this machine's.

        Raises `BackendError`.
        """
        return None
