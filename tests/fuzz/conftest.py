from __future__ import annotations

import pytest

from tests.support.fuzz_instance import arena as open_arena


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    """One target and event loop a module."""
    with open_arena(tmp_path_factory.mktemp("fuzz")) as made:
        yield made
