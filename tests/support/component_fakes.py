"""Adapters for tests of the registry: they open nothing and write down what happens to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, ClassVar

from dapr_shared.components.catalog import BUILT_IN, Catalog, CatalogRow
from dapr_shared.components.definition import Definition
from dapr_shared.contracts.component import BackendError, Component
from dapr_shared.contracts.secretstores import SecretNotFoundError, SecretStore
from dapr_shared.contracts.settings import Kind, Setting, Settings
from dapr_shared.resources.model import Component as ComponentResource
from dapr_shared.resources.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from dapr_shared.core.ids import AppRef

EVENTS: list[str] = []
"""`open:<text>` and `close:<text>` of every fake, in order. Cleared by the fixture that uses it."""


class FakeSettings(Settings, frozen=True, kw_only=True):
    """Settings of the fakes."""

    text: Annotated[str, Setting("Shown in the events.")] = ""
    fail: Annotated[str, Setting("The start fails with this text.")] = ""
    hang: Annotated[bool, Setting("The start never ends.", Kind.BOOLEAN)] = False
    fail_to_close: Annotated[bool, Setting("The end fails.", Kind.BOOLEAN)] = False
    number: Annotated[int, Setting("A number.", Kind.INTEGER)] = 0
    password: Annotated[str, Setting("A secret.", secret=True)] = ""


class Fake(Component[FakeSettings]):
    """A component of a kind of its own."""

    settings_type = FakeSettings
    capabilities: ClassVar[frozenset[str]] = frozenset({"FAKE"})
    closed = False

    async def start(self, stack: AsyncExitStack) -> None:
        EVENTS.append(f"open:{self.settings.text}")
        stack.callback(self._close)
        if self.settings.hang:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if self.settings.fail:
            raise BackendError(self.settings.fail)

    def _close(self) -> None:
        self.closed = True
        EVENTS.append(f"close:{self.settings.text}")
        if self.settings.fail_to_close:
            raise BackendError("will not close")


class FakeSecrets(Fake, SecretStore[FakeSettings]):
    """A fake that is a secret store."""

    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        raise SecretNotFoundError(name)

    async def bulk(self, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        return {}


FAKE_ROWS = (
    CatalogRow("fake.one", "tests.support.component_fakes:Fake", "A fake", aliases=("fake.1",)),
    CatalogRow("secretstores.fake", "tests.support.component_fakes:FakeSecrets", "A fake"),
)


def fake_catalog() -> Catalog:
    """The built-in types and the fakes."""
    return Catalog((*BUILT_IN, *FAKE_ROWS), installed=None)


def define(
    name: str = "c",
    values: Mapping[str, str] | None = None,
    *,
    type: str = "fake.one",  # noqa: A002 - as in the resource
    audience: set[AppRef] | None = None,
    file: str = "c.yaml",
    **fields: object,
) -> Definition:
    """A definition with `values` as its metadata; its `text` is the name unless given."""
    resource = ComponentResource(name=name, type=type, origin=Origin(file, 1, 1), **fields)
    given = {"text": name, **(values or {})} if type.endswith(("fake", "one", "1")) else dict(values or {})
    return Definition(resource, given, frozenset(audience) if audience is not None else None)
