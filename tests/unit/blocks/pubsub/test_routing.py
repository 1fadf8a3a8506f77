"""Routing rules: CEL over the event, with Dapr's answers where a rule or an event is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from dapr_shared.blocks.pubsub.envelope import EventError
from dapr_shared.blocks.pubsub.event import CloudEvent, read_event
from dapr_shared.blocks.pubsub.routing import RouteError, RuleError, compile_match, compile_routes
from dapr_shared.contracts.pubsub import Message

EVENT = {
    "id": "1",
    "type": "order.new",
    "source": "shop",
    "data": {"n": 2, "list": [1, 2], "text": "é", "nothing": None, "big": 12345678901234567890123},
}


def event(data: bytes | None = None) -> CloudEvent:
    body = data if data is not None else json.dumps(EVENT).encode()
    return read_event(Message("t", body), pubsub="ps", topic="t", raw=False)


@pytest.mark.parametrize(
    ("rule", "result"),
    [
        ('event.type == "order.new"', True),
        ("event.type == 'order.old'", False),
        ("event.data.n > 1", True),
        ("event.data.n == 2", True),
        ("event.data.n + 1.5 == 3.5", True),
        ("event.data.big > 5.0", True),
        ('event["data"]["n"] == 2.0', True),
        ("has(event.data.m) && event.data.m > 1", False),
        ("!has(event.subject)", True),
        ("event.type.startsWith('order.') && event.source in ['shop', 'web']", True),
        ("event.type.matches('^order\\\\.[a-z]+$')", True),
        ("event.data.list.exists(x, x == 2.0)", True),
        ("size(event.data.list) == 2", True),
        ("event.data.text == 'é'", True),
        ("event.data.nothing == null", True),
        ("'n' in event.data", True),
        ("true || event.missing", True),
        ("foo == 1 || event.id == '1'", True),
        ("true", True),
    ],
)
def test_rules(rule: str, *, result: bool) -> None:
    """A rule sees every attribute of the event, its numbers as doubles; a variable that is unknown may stay unused."""
    assert compile_match(rule)(event().mapping()) is result


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("event.missing == 1", 'NOT_FOUND: nothing has the name "missing"'),
        ("event.data.a.b == 1", 'nothing has the name "a"'),
        ("foo.bar == 1", 'nothing has the name "foo"'),
        ("event.type", "gave no boolean: STRING"),
        ("1", "gave no boolean: INT"),
        ("event.type + 1 == 2", "failed: "),
    ],
)
def test_a_rule_that_fails_for_an_event(rule: str, message: str) -> None:
    """What is missing, or is no boolean, is an error of its own kind and names the rule."""
    with pytest.raises(RouteError, match=message) as failed:
        compile_match(rule)(event().mapping())
    assert repr(rule) in str(failed.value)


def test_the_content_of_an_event_is_in_no_message() -> None:
    """A name that the event gave, not the rule, stays out of the error: it would reach a log."""
    with pytest.raises(RouteError) as failed:
        compile_match("event[event.type] == 1")(event().mapping())
    assert "order.new" not in str(failed.value)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("event.type ==", "line 1, column 14: Syntax error"),
        ("event.type == 'a' &&\n event.data.n >", "line 2, column 16: Syntax error"),
        ("event.type.lowerAscii() == 'x'", "line 1, column 22: undeclared reference to 'lowerAscii'"),
        ("type == 'x'", "line 1, column 6: found no matching overload"),
        ("event.n == 12345678901234567890", "line 1, column 12: invalid int literal"),
        ("event.a == '\ud800'", "not valid Unicode"),
        ("(" * 5000 + "true" + ")" * 5000, "recursion limit"),
        ("'" + "a" * 200_000 + "' == event.id", "size"),
        (" || ".join(f"a{number} == 1" for number in range(40)), "undeclared reference"),
    ],
)
def test_a_rule_that_does_not_compile(rule: str, message: str) -> None:
    """It is refused with line and column, before any event; so is one that is made to cost."""
    with pytest.raises(RuleError, match=message):
        compile_match(rule)


def test_a_rule_cannot_stop_the_instance() -> None:
    """Loops in a rule are bounded: it fails for the event instead of running for hours."""
    everything = "event.data.l.all(a, event.data.l.all(b, event.data.l.all(c, event.data.l.all(d, true))))"
    with pytest.raises(RouteError):
        compile_match(everything)({"data": {"l": list(range(1000))}})


def test_the_first_rule_that_matches_gives_the_path() -> None:
    """Rules are tried in order; one without a match always holds."""
    rules = [("event.type == 'x'", "/x"), ("event.data.n > 1", "/n"), ("", "/default"), ("event.missing", "/never")]
    assert compile_routes(rules).path(event()) == "/n"
    assert compile_routes(rules).path(event(b'{"type":"x"}')) == "/x"
    assert compile_routes([rules[0], rules[2]]).path(event()) == "/default"
    assert compile_routes(rules[:1]).path(event()) is None
    assert compile_routes([]).path(event()) is None


def test_a_rule_that_fails_stops_the_search() -> None:
    """A later default does not hide the error, as in Dapr."""
    with pytest.raises(RouteError):
        compile_routes([("event.missing == 1", "/a"), ("", "/b")]).path(event())


def test_a_wrong_rule_is_named_by_number_and_path() -> None:
    """The message tells which rule of the subscription it is."""
    with pytest.raises(RuleError, match=r"rule 2 \(path '/b'\): 'event\.' does not compile: line 1, column"):
        compile_routes([("event.a == 1", "/a"), ("event.", "/b")])


def test_an_event_is_read_only_where_a_rule_looks() -> None:
    """A subscription without rules does not decode the payload; one with rules reads also what no float holds."""
    odd = event(b'{"type":"x","data":1e999}')
    assert compile_routes([("event.type == 'x'", "/x")]).path(odd) == "/x"
    unreadable = CloudEvent({"data": msgspec.Raw(b"[" * 100_000 + b"]" * 100_000)}, b"")
    assert compile_routes([("", "/a")]).path(unreadable) == "/a"
    with pytest.raises(EventError):
        compile_routes([("event.type == 'x'", "/x")]).path(unreadable)


def test_rules_cost_nothing_where_there_are_none() -> None:
    """The library is imported with the first match, not with the block."""
    code = (
        "import sys; from dapr_shared.blocks.pubsub.routing import compile_routes; compile_routes([('', '/')]);"
        "assert not any(name.startswith('cel_expr_python') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_values_that_cel_has_no_type_for() -> None:
    """They fail the rule, not the process."""
    odd: dict[str, Any] = {"data": object()}
    with pytest.raises(RouteError):
        compile_match("event.data == 1")(odd)
