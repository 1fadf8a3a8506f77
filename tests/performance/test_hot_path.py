"""What a request costs does not grow unseen: calls and bytecodes are counted, which no other work on the machine changes."""

import asyncio
import json

import pytest
import uvloop

from tests.performance.hot_path import DELIVER, GRPC, HTTP, PYTHON, RECORD, cost, grown, senders

SLACK = 1.03
"""How much more than recorded is taken for nothing."""
SLACK_OF_OTHERS = 1.15
"""The same on another Python than the one of the record, whose calls are counted a little differently."""


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


@pytest.mark.parametrize("name", [*HTTP, GRPC, DELIVER])
async def test_a_request_costs_no_more_than_recorded(name, tmp_path):
    """A request needs no more calls and bytecodes than hot_path.json says; the failure names what is called more often."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    recorded = record["requests"][name]
    same_python = record["python"] == PYTHON
    async with asyncio.timeout(60), senders(tmp_path) as ways:
        now = await cost(ways[name])
    more = "\n  ".join(grown(recorded["functions"], now.functions)) or "no function is called more often"
    words = f"more than recorded; if that is meant: python -m tests.performance.hot_path\n  {more}"
    allowed = recorded["calls"] * (SLACK if same_python else SLACK_OF_OTHERS)
    assert now.calls <= allowed, f"{name}: {now.calls} calls a request, {recorded['calls']} recorded: {words}"
    if same_python:
        allowed = recorded["bytecodes"] * SLACK
        assert now.bytecodes <= allowed, f"{name}: {now.bytecodes} bytecodes, {recorded['bytecodes']} recorded: {words}"
    assert now.blocks < 1, f"{name}: {now.blocks} blocks of memory a request are still held after it"


def test_what_grew_is_named():
    """A call that is new and one that has become more frequent are listed, the greatest growth first."""
    assert grown({"a": 1, "b": 1, "c": 3}, {"a": 2, "b": 1, "c": 2, "d": 4}) == ["d: 0 -> 4", "a: 1 -> 2"]
