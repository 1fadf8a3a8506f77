"""The promise of a secret store."""

from __future__ import annotations

from abc import abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING

from dapr_shared.contracts.component import BackendError, Component, S

if TYPE_CHECKING:
    from collections.abc import Mapping


class SecretStoreCapability(StrEnum):
    """Features under the names that Dapr's metadata API uses."""

    MULTIPLE_KEY_VALUES_PER_SECRET = "MULTIPLE_KEY_VALUES_PER_SECRET"  # noqa: S105 - a name


class SecretNotFoundError(BackendError):
    """The store has answered that it has no secret of that name. A token that was kept there proves nobody from then on."""


class SecretUnusableError(BackendError):
    """The store has answered, and its secret is none that a resource may refer to."""


class SecretStore(Component[S]):
    """A store of named secrets, each a map of keys to values. Read only.

    Values never appear in a log or an error.
    """

    @abstractmethod
    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """One secret. Raises `SecretNotFoundError`, or `BackendError` where the store cannot be read."""

    @abstractmethod
    async def bulk(self, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """All secrets, by name. Raises `BackendError`."""

    async def refresh(self) -> None:
        """Read the source again, where it was read once at start; on failure what was read before stays.

        Called when the operator asks for a reload (SIGHUP), so that rotated tokens take effect. Raises `BackendError`.
        """

    def source_names(self, name: str) -> frozenset[str]:
        """Every name under which the source of this store knows the secret `name`.

        The secrets block refuses a secret when one of these is protected (it is an app's token, design §5.5). A store
        that adds a prefix to names answers with the name that the source sees.
        """
        return frozenset({name})
