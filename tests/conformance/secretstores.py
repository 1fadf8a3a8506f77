"""Every conformance case of a secret store, to be imported with a star.

The importing module defines one fixture, `secret_harness`, which gives a `Harness`. See docs/components/your-own.md.
"""
# ruff: noqa: E402, F403, F401 - pytest must know of the modules before they are imported; names are passed on

from __future__ import annotations

import sys

import pytest

_CASES = ("test_every_type", "test_secret_stores")
for _name in _CASES:
    if f"tests.conformance.{_name}" not in sys.modules:
        pytest.register_assert_rewrite(f"tests.conformance.{_name}")

from tests.conformance.test_every_type import (
    test_capabilities_are_claimed_by_the_class,
    test_start_and_end,
    test_start_cancelled_midway,
    test_stop_twice,
)
from tests.conformance.test_secret_stores import *
from tests.support.component_setups import Harness, Setup


@pytest.fixture
def harness(secret_harness):
    """For the cases of every component."""
    return secret_harness


@pytest.fixture
async def secret_store(secret_harness):
    """A started store."""
    async with secret_harness.opened() as store:
        yield store
