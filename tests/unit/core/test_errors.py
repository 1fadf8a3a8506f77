"""The error table: one table, whose rows stand in modules of blocks."""

from __future__ import annotations

import pickle
import pkgutil
from importlib import import_module

from dapr_shared.core import errors
from dapr_shared.core.errors import TABLE, ErrorRow


def test_every_row_is_in_the_table_and_named_once():
    """A row of any module is in the table and can be imported from the package; no two modules name theirs alike."""
    found: dict[str, ErrorRow] = {}
    for module in pkgutil.iter_modules(errors.__path__):
        rows = vars(import_module(f"{errors.__name__}.{module.name}")).items()
        here = {name: row for name, row in rows if isinstance(row, ErrorRow)}
        assert not here.keys() & found.keys(), f"{module.name} names a row as another module does"
        found |= here
    assert found == TABLE.rows
    assert all(getattr(errors, name) is row for name, row in found.items())


def test_an_error_goes_between_processes():
    """An error that is pickled comes back with its row and its message."""
    error = errors.STATE_NOT_FOUND(store="x")
    back = pickle.loads(pickle.dumps(error))
    assert isinstance(back, errors.DaprError)
    assert (back.row, back.message) == (error.row, error.message)
