"""`secretstores.local.env`: environment variables of the instance.

Last step of the request road. As in daprd a missing variable is an empty value and no error, and `APP_API_TOKEN` and all
`DAPR_…` variables read as empty. On an instance of many apps more is closed by the secrets block: every variable that
an App names (design §5.5).
"""
# ruff: noqa: ARG002, D102 - the contract says what its methods promise and are given

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from dapr_shared.contracts.secretstores import SecretStore
from dapr_shared.contracts.settings import Setting, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack


class EnvironmentSettings(Settings, frozen=True, kw_only=True):
    """The settings of `secretstores.local.env`."""

    prefix: Annotated[
        str, Setting("Put before the name of a secret to make the variable's name; only such variables are listed.")
    ] = ""


class EnvironmentSecretStore(SecretStore[EnvironmentSettings]):
    """The environment as it is at each call. Bytes that are not UTF-8 come as the replacement character."""

    settings_type = EnvironmentSettings

    async def start(self, stack: AsyncExitStack) -> None:
        """Nothing to open."""

    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        variable = self.settings.prefix + name
        return {name: _read(variable) if _allowed(variable) else ""}

    async def bulk(self, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        prefix = self.settings.prefix
        return {
            name: {name: _text(value)}
            for variable, value in os.environ.items()
            if variable.startswith(prefix) and _allowed(variable) and (name := _text(variable[len(prefix) :]))
        }

    def source_names(self, name: str) -> frozenset[str]:
        return frozenset({self.settings.prefix + name})


def _allowed(variable: str) -> bool:
    upper = variable.upper()
    return upper != "APP_API_TOKEN" and not upper.startswith("DAPR_")


def _read(variable: str) -> str:
    try:
        return _text(os.environ.get(variable, ""))
    except ValueError:  # no name that a variable can have
        return ""


def _text(value: str) -> str:
    return value.encode(errors="surrogateescape").decode(errors="replace")
