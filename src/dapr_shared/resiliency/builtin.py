"""The retries that Dapr does by itself, under the names by which a Resiliency resource may replace them.

Step 5 of both roads (reference behaviours §4).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from dapr_shared.contracts.invocation import AppUnreachableError
from dapr_shared.core.errors import DaprError, GrpcCode
from dapr_shared.resiliency.policy import Backoff, Policy, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE_RETRIES = "DaprBuiltInServiceRetries"
ACTOR_RETRIES = "DaprBuiltInActorRetries"
ACTOR_REMINDER_RETRIES = "DaprBuiltInActorReminderRetries"
INITIALIZATION_RETRIES = "DaprBuiltInInitializationRetries"
ACTOR_NOT_FOUND_RETRIES = "DaprBuiltInActorNotFoundRetries"

BUILT_IN_RETRIES: Mapping[str, RetryPolicy] = MappingProxyType(
    {
        SERVICE_RETRIES: RetryPolicy(duration=1.0, max_retries=3),
        ACTOR_RETRIES: RetryPolicy(duration=1.0, max_retries=3),
        ACTOR_REMINDER_RETRIES: RetryPolicy(backoff=Backoff.EXPONENTIAL),
        INITIALIZATION_RETRIES: RetryPolicy(
            backoff=Backoff.EXPONENTIAL, max_retries=3, max_interval=1.0, max_elapsed=10.0
        ),
        ACTOR_NOT_FOUND_RETRIES: RetryPolicy(duration=1.0, max_retries=5),
    }
)
PROTECTED = frozenset({ACTOR_NOT_FOUND_RETRIES})
"""Those that no resource replaces."""
MINIMUM_RETRIES = 3
"""A resource that replaces one of the others cannot set fewer."""

_CONNECTION_CODES = frozenset({GrpcCode.UNAVAILABLE, GrpcCode.UNAUTHENTICATED})
_SERVICE_RETRY = Policy(SERVICE_RETRIES, retry=BUILT_IN_RETRIES[SERVICE_RETRIES])


def builtin_service_retry() -> Policy:
    """What holds for service invocation without a policy for the app: 3 retries, 1 s apart.

    Only where the connection failed: pass `connection_failed` as `retryable`.
    """
    return _SERVICE_RETRY


def connection_failed(outcome: object) -> bool:
    """Whether an invocation failed before it reached the app: Unavailable or Unauthenticated from the transport.

    What the app itself answered is never tried again by the built-in retry, whatever its status (http-api §3).
    """
    if isinstance(outcome, DaprError):
        return outcome.row.grpc in _CONNECTION_CODES
    return isinstance(outcome, AppUnreachableError)
