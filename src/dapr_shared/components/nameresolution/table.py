"""The name resolvers that exist, as a table, and the making of the one that a Configuration names.

Beside the request road, at the start alone. Those of Dapr that are not here yet are known by name, so that the answer
can say which they are.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from dapr_shared.components.nameresolution.kubernetes import KubernetesNames
from dapr_shared.components.nameresolution.nameformat import NameFormat
from dapr_shared.contracts.nameresolution import CLUSTER_DOMAIN
from dapr_shared.contracts.settings import SettingError, decode_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.contracts.nameresolution import NameResolver

RESOLVERS: Final[Mapping[str, type[NameResolver[Any]]]] = {"kubernetes": KubernetesNames, "nameformat": NameFormat}
"""By the name in `spec.nameResolution.component`."""
NOT_YET: Final = frozenset({"aws.cloudmap", "consul", "hashicorp.consul", "mdns", "sqlite"})
"""Dapr's others."""
_VERSIONS: Final = frozenset({"", "v0", "v1"})


class NameResolutionError(Exception):
    """`spec.nameResolution` does not make a resolver; the message names the field and what to do."""


def make_resolver(
    given: Any, *, port: int, default: str = "", cluster_domain: str = CLUSTER_DOMAIN
) -> NameResolver[Any] | None:
    """The resolver that `spec.nameResolution` asks for, else the one called `default`; `None`: none is wanted.

    Raises `NameResolutionError`.
    """
    spec = _section("", given)
    name = str(spec.get("component") or default).strip().lower().removeprefix("nameresolution.")
    if not name:
        return None
    made = RESOLVERS.get(name)
    if made is None:
        known = ", ".join(RESOLVERS)
        what = "is not available in this version" if name in NOT_YET else "is not a name resolver"
        raise NameResolutionError(f"spec.nameResolution.component: {name} {what}; there are {known}")
    if str(spec.get("version") or "") not in _VERSIONS:
        raise NameResolutionError(f"spec.nameResolution.version: expected v1, found {spec.get('version')!r}")
    try:
        settings: Any = decode_settings(made.settings_type, _texts(spec.get("configuration")))
        return made(settings, port=port, cluster_domain=cluster_domain)
    except SettingError as error:
        raise NameResolutionError(f"spec.nameResolution.configuration.{error}") from error


def _texts(given: Any) -> dict[str, str]:
    """The settings as texts, as those of a component are."""
    configuration = _section(".configuration", given)
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in configuration.items()}


def _section(field: str, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise NameResolutionError(f"spec.nameResolution{field}: expected names and values")
    return cast("dict[str, Any]", given)
