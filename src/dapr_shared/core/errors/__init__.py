"""The error table: every error that an API can answer is one row here.

Both roads end here when something goes wrong. A row says what HTTP and gRPC clients see; blocks and adapters raise it
by calling it, and `api/errors.py` is the only place that turns it into bytes. The statuses and codes are Dapr's own
where Dapr has them (reference http-api §12, grpc-api §1.3).

The rows of each block stand in a module named after it. They are imported from here, so that a block need not know where.
"""
# ruff: noqa: F403 - the table is one, and each row is named once, where it stands

from __future__ import annotations

from dapr_shared.core.errors import (
    bindings,
    common,
    configuration,
    identity,
    invoke,
    lock,
    pubsub,
    secrets,
    state,
    system,
)
from dapr_shared.core.errors.bindings import *
from dapr_shared.core.errors.common import *
from dapr_shared.core.errors.configuration import *
from dapr_shared.core.errors.identity import *
from dapr_shared.core.errors.invoke import *
from dapr_shared.core.errors.lock import *
from dapr_shared.core.errors.pubsub import *
from dapr_shared.core.errors.rows import *
from dapr_shared.core.errors.rows import ErrorTable
from dapr_shared.core.errors.secrets import *
from dapr_shared.core.errors.state import *
from dapr_shared.core.errors.system import *

TABLE = ErrorTable()
for _module in (common, identity, invoke, state, pubsub, bindings, configuration, lock, secrets, system):
    TABLE.collect(vars(_module))
