"""What a start does not load: libraries that only a resource, a flag or another command needs."""

from __future__ import annotations

import re

import pytest

from tests.support.instance import app, component, running

HEAVY = (
    "aiohttp", "asyncpg", "celpy", "cel_expr_python", "cronsim", "cryptography", "cyclopts", "grpc", "grpc_tools.protoc", "hiredis",
    "httpx2", "joserfc", "opentelemetry", "pyreqwest", "redis", "rich.console", "rich.traceback",
)  # fmt: skip
"""Libraries by the module whose import costs memory and time at a start that has no use for it."""


@pytest.mark.parametrize("apps", [1, 2])
def test_a_start_loads_no_library_that_nothing_asks_for(tmp_path, apps):
    """An instance with state and pub/sub in memory and in SQLite starts without any of the heavy libraries."""
    resources = [
        component("memory", "state.in-memory"),
        component("file", "state.sqlite", connectionString=str(tmp_path / "state.db")),
        component("bus", "pubsub.in-memory"),
    ]
    if apps > 1:
        resources += [app("orders"), app("stock")]
    single = "orders" if apps == 1 else ""
    flags = ("--data-dir", str(tmp_path / "data"))
    with running(
        tmp_path, *flags, resources=resources, app_id=single, env={"PYTHONPROFILEIMPORTTIME": "1"}
    ) as instance:
        # Python lists every import on standard error.
        imported = set(re.findall(r"^import time:[^|]*\|[^|]*\| *(\S+)$", instance.output(), re.MULTILINE))
    assert {"dapr_shared.runtime.assembly", "apsw"} <= imported
    assert not imported.intersection(HEAVY)
