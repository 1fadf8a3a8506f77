"""Every conformance case of a binding, to be imported with a star; `binding_harness` is the importing module's.

See docs/components/your-own.md.
"""
# ruff: noqa: E402, F403, F401 - pytest must know of the modules before they are imported; names are passed on

from __future__ import annotations

import sys

import pytest

_CASES = ("test_every_type", "test_bindings")
for _name in _CASES:
    if f"tests.conformance.{_name}" not in sys.modules:
        pytest.register_assert_rewrite(f"tests.conformance.{_name}")

from tests.conformance.test_bindings import *
from tests.conformance.test_every_type import (
    test_capabilities_are_claimed_by_the_class,
    test_start_and_end,
    test_start_cancelled_midway,
    test_stop_twice,
)
from tests.support.component_setups import Harness, Setup


@pytest.fixture
def harness(binding_harness):
    """For the cases of every component."""
    return binding_harness


@pytest.fixture
async def binding(binding_harness):
    """A started binding."""
    async with binding_harness.opened() as opened:
        yield opened
