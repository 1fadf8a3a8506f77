"""The instance's own Configuration in a cluster: `--config` is its name (reference daprd-flags §2).

Before both roads, and before the parts of the instance are put together: what metrics, traces, logs of calls, features and
denied components are is in it. Only the probes are answered while it is waited for.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from dapr_shared.core.ids import DEFAULT_NAMESPACE
from dapr_shared.kube.errors import KubeError, NotFound, Unavailable
from dapr_shared.kubernetes.resources import CONFIGURATIONS, ObjectReader
from dapr_shared.resources.errors import ResourceError, ResourceErrors
from dapr_shared.resources.model import Configuration
from dapr_shared.runtime.kubernetes_sources import PATIENCE, cluster_client
from dapr_shared.runtime.settings import SettingsError
from dapr_shared.runtime.sources import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.runtime.settings import Settings

_PAUSE = 1.0
"""Seconds between two questions while the API server does not answer."""


async def read_cluster_configuration(settings: Settings, waiting: Callable[[str], None]) -> Configuration | None:
    """The Configuration that `--config` names. `waiting` is told why it takes long.

    An instance of one app waits for the API server as long as for its resources, one of many until it is there. Raises
    `ClusterError`, `ResourceErrors`, and `SettingsError` where there is no cluster or no Configuration of that name.
    """
    names = list(settings.config)
    if not names:
        return None
    if len(names) > 1:
        raise SettingsError("--config: with --mode=kubernetes there is one Configuration, by its name")
    return await _read(settings, names[0], waiting)


async def _read(settings: Settings, name: str, waiting: Callable[[str], None]) -> Configuration:
    client = cluster_client()
    namespace = os.environ.get("NAMESPACE") or client.namespace or DEFAULT_NAMESPACE
    told = ""
    try:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE if settings.single_app else None):
            await client.start(stack)
            while True:
                try:
                    data = await client.get(CONFIGURATIONS, name, namespace)
                    break
                except Unavailable as error:
                    if error.message != told:
                        told = error.message
                        waiting(told)
                    await asyncio.sleep(_PAUSE)
    except NotFound as error:
        raise SettingsError(f"--config: there is no Configuration {name!r} in namespace {namespace}") from error
    except KubeError as error:
        raise ClusterError(f"--config: {error.message}") from error
    except TimeoutError:
        raise ClusterError(f"--config: no answer within {PATIENCE:g} s: {told}") from None
    read = ObjectReader().read([(CONFIGURATIONS, data)])
    if read.problems:
        raise ResourceErrors([ResourceError(each.origin, "", each.problem) for each in read.problems])
    return next(one.resource for one in read.found if isinstance(one.resource, Configuration))
