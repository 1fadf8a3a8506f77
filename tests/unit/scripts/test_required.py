"""What happens to a test whose machine lacks something."""

from __future__ import annotations

import pytest

from tests.support.required import need, need_command, need_module


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_what_is_absent(monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]) -> None:
    """What is absent is a skip on a laptop and a failure where CI=true; either names it."""
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="needs the command no-such-command"):
        need_command("no-such-command", "nothing")
    with pytest.raises(outcome, match="needs the Python package no_such_module"):
        need_module("no_such_module")


@pytest.mark.parametrize("ci", ["", "true"])
def test_what_is_there(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    """What is there lets the test go on."""
    monkeypatch.setenv("CI", ci)
    need(1, "nothing")
    need_module("pytest")
    assert need_command("sh", "dash").endswith("sh")
