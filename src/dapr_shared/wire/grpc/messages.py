"""Iterators of messages, and cancellation: what handlers, engines, proxy and client share.

Beside both roads' first and last step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def close(messages: AsyncIterator[bytes]) -> None:
    """End an iterator of messages before its end, if it is one that can be (an asynchronous generator)."""
    if isinstance(messages, AsyncGenerator):
        await messages.aclose()


def is_being_cancelled() -> bool:
    """Whether the current task was cancelled, and not only something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
