"""`secretstores.local.file`: a JSON file.

Last step of the request road. The file is read once, at the start. By default nested values get flat names (`db:user`),
one value a secret; with `multiValued` each top-level name is one secret with all values below it.

What differs from daprd, on purpose: values that are no text are given as their JSON text (`1`, `true`, `null`), where
daprd gives Go's complaint about its own format; two values that would get one name are an error at the start, where
daprd silently drops what comes after; with `multiValued`, top-level numbers and the like are kept too.
"""
# ruff: noqa: ARG002, D102 - the contract says what its methods promise and are given

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.secretstores import SecretNotFoundError, SecretStore, SecretStoreCapability
from dapr_shared.contracts.settings import Kind, Setting, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AsyncExitStack

DEFAULT_SEPARATOR = ":"
SIZE_LIMIT = 16 * 1024 * 1024
"""Bytes that the file may have."""
DEPTH_LIMIT = 100
"""Objects and arrays inside each other at most."""


class FileSettings(Settings, frozen=True, kw_only=True):
    """The settings of `secretstores.local.file`."""

    secrets_file: Annotated[
        str,
        Setting("Path of the JSON file; a relative one counts from the working directory.", example="secrets.json"),
    ]
    nested_separator: Annotated[str, Setting("Stands between the parts of a nested value's name.")] = DEFAULT_SEPARATOR
    multi_valued: Annotated[bool, Setting("One secret for each top-level name, with several values.", Kind.BOOLEAN)] = (
        False
    )


class FileSecretStore(SecretStore[FileSettings]):
    """Secrets of a JSON file."""

    settings_type = FileSettings
    capabilities: ClassVar[frozenset[str]] = frozenset({SecretStoreCapability.MULTIPLE_KEY_VALUES_PER_SECRET})
    """Only with `multiValued`."""

    _secrets: Mapping[str, Mapping[str, str]] | None = None

    def effective_capabilities(self) -> frozenset[str]:
        return self.capabilities if self.settings.multi_valued else frozenset()

    async def start(self, stack: AsyncExitStack) -> None:
        self._separator = self.settings.nested_separator or DEFAULT_SEPARATOR
        self._source_names: dict[str, frozenset[str]] = {}
        await self._load()
        stack.callback(self._forget)

    async def refresh(self) -> None:
        """Read the file again. Raises `BackendError`; then the secrets that were read before stay."""
        self._open()
        await self._load()

    async def _load(self) -> None:
        document = await asyncio.to_thread(_read, Path(self.settings.secrets_file))
        before, self._source_names = self._source_names, {}
        try:
            self._secrets = self._several(document) if self.settings.multi_valued else self._flat(document)
        except BackendError:
            self._source_names = before
            raise

    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        secret = self._open().get(name)
        if secret is None:
            raise SecretNotFoundError(f"secret {name} not found")
        return secret

    async def bulk(self, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        return dict(self._open())

    def source_names(self, name: str) -> frozenset[str]:
        """All names of the same values in this file, however a store reads it: `db` and `db:user` are one source."""
        return self._source_names.get(name) or frozenset({name})

    def _flat(self, document: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
        secrets: dict[str, Mapping[str, str]] = {}
        for path, text in _leaves(document):
            name = self._separator.join(path)
            if name in secrets:
                raise BackendError(f"the secrets file has two values that are both named {name!r}")
            secrets[name] = {name: text}
            self._source_names[name] = frozenset(
                joined.join(path[:length])
                for length in range(1, len(path) + 1)
                for joined in (self._separator, DEFAULT_SEPARATOR)
            )
        return secrets

    def _several(self, document: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
        secrets: dict[str, Mapping[str, str]] = {}
        for name, value in document.items():
            if isinstance(value, list):
                continue  # as daprd
            sources = {name}
            values: dict[str, str] = {}
            for path, text in _leaves(value) if isinstance(value, dict) else [((), _text(value))]:
                key = self._separator.join(path) or name
                if key in values:
                    raise BackendError(f"the secret {name!r} of the secrets file has two values named {key!r}")
                values[key] = text
                sources.update(joined.join((name, *path)) for joined in (self._separator, DEFAULT_SEPARATOR))
            secrets[name] = values
            self._source_names[name] = frozenset(sources)
        return secrets

    def _open(self) -> Mapping[str, Mapping[str, str]]:
        if self._secrets is None:
            raise BackendError(f"secret store {self.context.name} is not open")
        return self._secrets

    def _forget(self) -> None:
        self._secrets = None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise BackendError(f"the secrets file {path} cannot be read: {error.strerror}") from error
    if len(content) > SIZE_LIMIT:
        raise BackendError(f"the secrets file {path} is larger than {SIZE_LIMIT >> 20} MiB")
    try:
        # Numbers stay as they are written: a secret such as 007.50 must not become another.
        document: object = json.loads(content, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        # Without the text around the error: it may be a secret.
        raise BackendError(
            f"the secrets file {path} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}",
        ) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise BackendError(f"the secrets file {path} is not JSON: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise BackendError(f"the secrets file {path} must hold a JSON object")
    return cast("dict[str, Any]", document)


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The values that are no object and no array, with the names and indexes that lead to them."""
    if len(path) > DEPTH_LIMIT:
        raise BackendError(f"the secrets file is nested more than {DEPTH_LIMIT} deep")
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value).items()
    elif isinstance(value, list):
        inner = ((str(index), one) for index, one in enumerate(cast("list[Any]", value)))
    else:
        yield path, _text(value)
        return
    for name, one in inner:
        yield from _leaves(one, (*path, name))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
