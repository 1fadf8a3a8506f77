"""Every conformance case of a message broker, to be imported with a star; `broker_harness` is the importing module's.

See docs/components/your-own.md.
"""
# ruff: noqa: E402, F403, F401 - pytest must know of the modules before they are imported; names are passed on

from __future__ import annotations

import sys

import pytest

_CASES = ("test_every_type", "test_pubsub_delivery", "test_pubsub_lifetime")
for _name in _CASES:
    if f"tests.conformance.{_name}" not in sys.modules:
        pytest.register_assert_rewrite(f"tests.conformance.{_name}")

from tests.conformance.test_every_type import (
    test_capabilities_are_claimed_by_the_class,
    test_start_and_end,
    test_start_cancelled_midway,
    test_stop_twice,
)
from tests.conformance.test_pubsub_delivery import *
from tests.conformance.test_pubsub_lifetime import *
from tests.support.component_setups import Harness, Setup


@pytest.fixture
def harness(broker_harness):
    """For the cases of every component."""
    return broker_harness


@pytest.fixture
async def broker(broker_harness):
    """A started broker."""
    async with broker_harness.opened() as opened:
        yield opened
