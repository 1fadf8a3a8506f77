"""Queries of `state.postgresql` that are refused before the server is asked."""

from __future__ import annotations

from typing import Any

import pytest

from dapr_shared.components.postgresql.query import run_query
from dapr_shared.contracts.component import BackendError


@pytest.mark.parametrize("token", ["9" * 5000, "9" * 11, "2147483648", "-1", "1.0", "\u0661", " 1", "x", 7], ids=str)
async def test_a_page_token_of_another_form_is_refused(token):
    """A token that is not one of the store's is an error in words, however long it is."""
    nobody: Any = None
    with pytest.raises(BackendError, match=r"page\.token"):
        await run_query(nobody, "SELECT", {"page": {"limit": 1, "token": token}}, "app||", nobody)
