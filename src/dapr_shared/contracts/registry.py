"""How blocks find components: by kind, name and the app that asks. The registry itself is in `components/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from dapr_shared.contracts.component import Component

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dapr_shared.contracts.encryption import EncryptionKeys
    from dapr_shared.contracts.turns import Turns
    from dapr_shared.core.ids import AppRef

C = TypeVar("C", bound=Component[Any])
C_co = TypeVar("C_co", bound=Component[Any], covariant=True)


@dataclass(frozen=True, slots=True)
class Opened(Generic[C_co]):
    """A started component as one app sees it."""

    name: str
    type: str
    version: str
    namespace: str
    capabilities: frozenset[str]
    runtime_metadata: Mapping[str, str] = field(repr=False)
    """The metadata that blocks read, not the adapter (`keyPrefix`, scopes, …); names in lower case."""
    component: C_co
    namespace_scoped: bool = False
    """Some value of its metadata has `{namespace}`: a broker's topics are then prefixed (reference resources §1)."""
    turns: Turns | None = field(default=None, repr=False, compare=False)
    """Where the component carries out few calls at a time and is shared by apps: whose turn it is."""
    encryption: EncryptionKeys | None = field(default=None, repr=False)
    """The keys of a state store whose values are encrypted before it gets them."""
    one_app: bool = False
    """No other app can see it: the instance serves one app, or the resource's scopes name one."""
    naming_app: frozenset[str] = frozenset()
    """Names of its metadata, in lower case, whose text names the app (`{appID}`, `{namespace}`): no other app has the value."""


class Components(Protocol):
    """The components that are open now. Scopes are checked here and nowhere else (design §5.3)."""

    def find(self, contract: type[C], app: AppRef, name: str) -> Opened[C] | None:
        """The component of that kind and name, if this app may see it."""
        ...

    def has(self, contract: type[Component[Any]], app: AppRef) -> bool:
        """Whether this app sees any component of that kind."""
        ...

    def visible(self, app: AppRef) -> Sequence[Opened[Component[Any]]]:
        """All components that this app sees, in order of name."""
        ...
