"""The component types that exist, as a table.

Beside both roads: the registry looks types up here when a component is opened. No adapter is imported before a
resource names its type, and nothing registers itself by being imported (design §5.8).
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from dapr_shared.contracts.component import Component

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ENTRY_POINT_GROUP = "dapr_shared.components"
"""Entry points of this group are a `CatalogRow`, or a sequence of them, and add types of third parties."""

DEFAULT_VERSION = "v1"


def block_of(component_type: str) -> str:
    """The part of a type that names the block: its first word, but for `middleware.http`. In lower case."""
    first, _, rest = component_type.strip().casefold().partition(".")
    return "middleware.http" if first == "middleware" and rest.startswith("http.") else first


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One component type."""

    type: str
    """`<block>.<name>` in lower case."""
    target: str
    """The adapter as `module:Class`; imported when a resource first names the type."""
    doc: str
    """One line for people."""
    aliases: tuple[str, ...] = ()
    """Other names of the type."""
    versions: tuple[str, ...] = (DEFAULT_VERSION,)
    """Accepted versions; `v1` also stands for `v0` and for none given. Without `v1`, the first is the default."""
    extra: str = ""
    """The optional dependency group to install; empty: nothing beyond the base installation."""
    stable: bool = True
    """Whether its behaviour is settled; Dapr's own status of the type where Dapr has it."""

    @property
    def block(self) -> str:
        """`state`, `secretstores`, `middleware.http` and so on."""
        return block_of(self.type)

    @property
    def names(self) -> tuple[str, ...]:
        """The type and its aliases."""
        return (self.type, *self.aliases)


BUILT_IN: tuple[CatalogRow, ...] = (
    CatalogRow("bindings.cron", "dapr_shared.components.cron.binding:CronBinding", "Calls apps by a schedule"),
    CatalogRow("bindings.http", "dapr_shared.components.http.binding:HttpBinding", "Requests to an HTTP endpoint"),
    CatalogRow(
        "bindings.localstorage",
        "dapr_shared.components.localstorage.binding:LocalStorageBinding",
        "Files in a folder of the machine",
    ),
    CatalogRow(
        "bindings.postgresql",
        "dapr_shared.components.postgresql.bindings:PostgresBinding",
        "SQL that apps run on PostgreSQL: exec, query",
        aliases=("bindings.postgres",),
        extra="postgresql",
    ),
    CatalogRow(
        "bindings.redis",
        "dapr_shared.components.redis.bindings:RedisBinding",
        "Texts in Redis or Valkey: create, get, delete, increment",
        extra="redis",
    ),
    CatalogRow(
        "configuration.in-memory",
        "dapr_shared.components.memory.configuration:MemoryConfigurationStore",
        "The configuration items that stand in the component's own resource",
    ),
    CatalogRow(
        "configuration.postgresql",
        "dapr_shared.components.postgresql.configuration:PostgresConfigurationStore",
        "Items in a table of PostgreSQL, with changes told by NOTIFY",
        aliases=("configuration.postgres",),
        extra="postgresql",
    ),
    CatalogRow(
        "configuration.redis",
        "dapr_shared.components.redis.configuration:RedisConfigurationStore",
        "Items in Redis or Valkey, with changes told by its notifications",
        extra="redis",
    ),
    CatalogRow(
        "configuration.sqlite",
        "dapr_shared.components.sqlite.configuration:SqliteConfigurationStore",
        "Configuration items in one SQLite file, written by operators",
        aliases=("configuration.sqlite3",),
    ),
    CatalogRow(
        "lock.in-memory",
        "dapr_shared.components.memory.lock:MemoryLockStore",
        "Locks in this process, gone when it ends",
    ),
    CatalogRow(
        "lock.redis",
        "dapr_shared.components.redis.lock:RedisLockStore",
        "Locks in one Redis or Valkey",
        extra="redis",
        stable=False,
    ),
    CatalogRow(
        "lock.sqlite",
        "dapr_shared.components.sqlite.lock:SqliteLockStore",
        "Locks in one SQLite file, for the processes of one machine",
        aliases=("lock.sqlite3",),
    ),
    CatalogRow(
        "pubsub.in-memory",
        "dapr_shared.components.memory.pubsub:MemoryPubSub",
        "A message bus in this process, gone when it ends",
    ),
    CatalogRow(
        "pubsub.redis",
        "dapr_shared.components.redis.pubsub:RedisPubSub",
        "Streams of Redis or Valkey with consumer groups, in the layout that daprd writes",
        extra="redis",
    ),
    CatalogRow(
        "pubsub.sqlite",
        "dapr_shared.components.sqlite.pubsub:SqlitePubSub",
        "A durable message broker in one SQLite file, for a laptop or a single node",
        aliases=("pubsub.sqlite3",),
    ),
    CatalogRow(
        "secretstores.kubernetes",
        "dapr_shared.components.kubernetes.secrets:KubernetesSecretStore",
        "The Secrets of a Kubernetes cluster",
    ),
    CatalogRow(
        "secretstores.local.env",
        "dapr_shared.components.local.env:EnvironmentSecretStore",
        "Environment variables of the instance as secrets",
    ),
    CatalogRow(
        "secretstores.local.file",
        "dapr_shared.components.local.file:FileSecretStore",
        "A JSON file as a store of secrets, read once at the start",
    ),
    CatalogRow(
        "state.in-memory",
        "dapr_shared.components.memory.state:MemoryStateStore",
        "State in this process, gone when it ends",
    ),
    CatalogRow(
        "state.postgresql",
        "dapr_shared.components.postgresql.state:PostgresStateV1",
        "State in a table of PostgreSQL as JSON, which can be queried, in the layout that daprd writes",
        aliases=("state.postgres",),
        extra="postgresql",
    ),
    CatalogRow(
        "state.postgresql",
        "dapr_shared.components.postgresql.state:PostgresStateV2",
        "State in a table of PostgreSQL as bytes, in the layout that daprd writes",
        aliases=("state.postgres", "state.yugabyte", "state.yugabytedb"),
        versions=("v2",),
        extra="postgresql",
    ),
    CatalogRow(
        "state.redis",
        "dapr_shared.components.redis.state:RedisStateStore",
        "State in Redis or Valkey, in the layout that daprd writes",
        extra="redis",
    ),
    CatalogRow(
        "state.sqlite",
        "dapr_shared.components.sqlite.state:SqliteStateStore",
        "State in one SQLite file, in the layout that daprd writes",
        aliases=("state.sqlite3",),
    ),
)


class CatalogError(Exception):
    """A component type that cannot be used; the message says what to do."""


class UnknownTypeError(CatalogError):
    """No row has the type."""


class UnknownVersionError(CatalogError):
    """The type exists, in other versions."""


class MissingDependencyError(CatalogError):
    """The adapter needs a library that is not installed."""


class DuplicateTypeError(CatalogError):
    """Two rows claim one type and version."""


def installed_rows() -> list[CatalogRow]:
    """The rows that installed packages add. Raises `CatalogError` for an entry point that gives something else."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to import, and seldom needed

    rows: list[CatalogRow] = []
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            found: Any = point.load()
        except Exception as error:
            raise CatalogError(f"the entry point {point.name!r} ({point.value}) cannot be loaded: {error}") from error
        given = cast("tuple[object, ...]", tuple(found) if isinstance(found, list | tuple) else (found,))  # pyright: ignore[reportUnknownArgumentType]
        for row in given:
            if not isinstance(row, CatalogRow):
                raise CatalogError(f"the entry point {point.name!r} ({point.value}) is no CatalogRow: {row!r}")
            rows.append(row)
    return rows


class Catalog:
    """The table with look-up. Rows of installed packages are read when a type is not built in, or all are asked for."""

    def __init__(
        self,
        built_in: Iterable[CatalogRow] = BUILT_IN,
        installed: Callable[[], Iterable[CatalogRow]] | None = installed_rows,
        pluggable: Callable[[str], CatalogRow | None] | None = None,
    ) -> None:
        """`pluggable` is asked last, for the row of a type that no table has: a component that has a socket."""
        self._pluggable = pluggable
        self._rows: list[CatalogRow] = []
        self._by_name: dict[tuple[str, str], CatalogRow] = {}
        self._installed = installed
        self._classes: dict[str, type[Component[Any]]] = {}
        for row in built_in:
            self._add(row)

    def rows(self) -> tuple[CatalogRow, ...]:
        """All rows, in order of type. Raises `CatalogError`."""
        self._load_installed()
        return tuple(sorted(self._rows, key=lambda row: (row.type, row.versions)))

    def find(self, component_type: str, version: str = "") -> CatalogRow:
        """The row of a type, whatever its case. Raises `UnknownTypeError` and `UnknownVersionError`."""
        name = component_type.strip().casefold()
        if not any(known == name for known, _ in self._by_name):
            self._load_installed()
        versions = [known for type_name, known in self._by_name if type_name == name]
        if not versions:
            row = self._pluggable(name) if self._pluggable is not None else None
            if row is not None:
                return row  # not kept: it is there as long as its socket is
            raise UnknownTypeError(f"unknown component type {component_type!r}{self._suggestion(name)}")
        row = self._by_name.get((name, _canonical_version(version, versions)))
        if row is None:
            raise UnknownVersionError(
                f"{component_type} has no version {version!r}; it has {', '.join(sorted(versions))}",
            )
        return row

    def version_of(self, row: CatalogRow, version: str) -> str:
        """The version in the form of the row: `v1` for none, for `v0` and for `v1`, where the row has it."""
        return _canonical_version(version, row.versions)

    def load(self, row: CatalogRow) -> type[Component[Any]]:
        """The adapter's class. Raises `MissingDependencyError`, or `CatalogError` for a row that names no adapter."""
        known = self._classes.get(row.target)
        if known is not None:
            return known
        module_name, _, class_name = row.target.partition(":")
        try:
            found: Any = getattr(importlib.import_module(module_name), class_name)
        except ModuleNotFoundError as error:
            if error.name and (error.name == module_name or module_name.startswith(f"{error.name}.")):
                raise CatalogError(f"{row.type}: its adapter {row.target} does not exist") from error
            raise MissingDependencyError(_install_hint(row, error.name or str(error))) from error
        except AttributeError as error:
            raise CatalogError(f"{row.type}: its adapter {row.target} does not exist") from error
        if not (isinstance(found, type) and issubclass(found, Component)):
            raise CatalogError(f"{row.type}: {row.target} is no Component")
        adapter = cast("type[Component[Any]]", found)
        self._classes[row.target] = adapter
        return adapter

    def _add(self, row: CatalogRow) -> None:
        for name in row.names:
            for version in row.versions:
                key = (name.casefold(), version.casefold())
                other = self._by_name.get(key)
                if other is not None:
                    raise DuplicateTypeError(
                        f"{name} {version} is in the catalog twice: {other.target} and {row.target}"
                    )
                self._by_name[key] = row
        self._rows.append(row)

    def _load_installed(self) -> None:
        installed, self._installed = self._installed, None
        if installed is not None:
            for row in installed():
                self._add(row)

    def _suggestion(self, name: str) -> str:
        known = sorted({type_name for type_name, _ in self._by_name})
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        if close:
            return f": did you mean {' or '.join(close)}?"
        same_block = [known_name for known_name in known if block_of(known_name) == block_of(name)]
        return f"; known: {', '.join(same_block or known)}"


def _canonical_version(version: str, known: Iterable[str]) -> str:
    given = version.strip().casefold()
    versions = [one.casefold() for one in known]
    if given in {"", "v0", DEFAULT_VERSION} and (DEFAULT_VERSION in versions or not given):
        return DEFAULT_VERSION if DEFAULT_VERSION in versions else versions[0]
    return given


def _install_hint(row: CatalogRow, missing: str) -> str:
    if row.extra:
        return f"{row.type} needs the library {missing!r}: install it with pip install 'dapr-shared[{row.extra}]'"
    return f"{row.type} needs the library {missing!r}, which is not installed"
