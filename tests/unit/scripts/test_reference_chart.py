"""The table of the chart's values."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import reference_chart

    yield reference_chart._rows
    for name in ("reference_chart", "reference_tables"):
        sys.modules.pop(name, None)


def test_rows(rows) -> None:
    """A key's meaning is the comment with the mark above it, all lines of it; a mapping without one has rows of its keys."""
    text = """
# Of nothing.
# -- First line,
# and second.
tea: [1, two]
cups:
  # -- How many.
  count: 3
# -- A mapping as a whole.
pot: {lid: true}
"""
    assert list(rows(text)) == [
        ("`tea`", '`[1, "two"]`', "First line, and second."),
        ("`cups.count`", "`3`", "How many."),
        ("`pot`", '`{"lid": true}`', "A mapping as a whole."),
    ]


@pytest.mark.parametrize("text", ["tea: 1", "# Not marked.\ntea: 1", "cups:\n  tea: 1", "tea: {}"])
def test_a_value_without_a_meaning(rows, text) -> None:
    """A value that says nowhere what it means is an error that names it and its line."""
    with pytest.raises(Exception, match=r"values.yaml, line \d+: (cups\.)?tea lacks its"):
        list(rows(text))
