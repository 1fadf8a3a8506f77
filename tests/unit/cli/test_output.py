from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
import yaml
from rich.cells import cell_len
from rich.console import Console

from dapr_shared.cli.output import Column, Format, as_text, plain_table, show, span, table, yes_no
from dapr_shared.cli.views import APPS, COMPONENTS, SUBSCRIPTIONS, look
from dapr_shared.runtime.operators.answers import AppRow, ComponentRow, SubscriptionRow

ROWS = [
    AppRow(
        id="注文サービス-orders", namespace="default", channel="http://127.0.0.1:8000", reachable=True, healthy=True,
        since=datetime.now(UTC) - timedelta(hours=3, minutes=5), calls=12, evidence=["token (2)", "listener"],
        listeners=["http 127.0.0.1:3601", "grpc 127.0.0.1:50601"],
    ),
    AppRow(id="mail", namespace="a-namespace-of-some-length", evidence=["token"]),
]  # fmt: skip


def drawn(rows, columns, width: int) -> list[str]:
    stream = StringIO()
    Console(file=stream, width=width, force_terminal=False, highlight=False).print(table(rows, columns, width))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_fits_the_terminal(width):
    """No line is wider than the terminal, wide characters counted as two cells, and the app's name is always there."""
    lines = drawn(ROWS, APPS, width)
    assert max(cell_len(line) for line in lines) <= width
    assert any("注文" in line for line in lines)
    assert any("mail" in line for line in lines)


def test_what_does_not_fit_is_left_out_by_importance_and_named():
    """At 80 cells the least important columns go, and a line below says which; at 200 all of them are there."""
    narrow, wide = drawn(ROWS, APPS, 80), drawn(ROWS, APPS, 200)
    assert "REACHABLE" in narrow[0]
    assert "LISTENERS" not in narrow[0]
    assert "left out for want of room: " in " ".join(narrow)
    assert all(column.title in wide[0] for column in APPS)
    assert "left out" not in " ".join(wide)


@pytest.mark.parametrize("columns", [COMPONENTS, SUBSCRIPTIONS])
def test_long_errors_are_folded_into_their_column(columns):
    """A long last error or reason takes more lines, not a wider screen."""
    text = "the server answered: " + "reason " * 30
    row = (
        ComponentRow(name="store", type="state.redis", version="v1", namespace="default", last_error=text)
        if columns is COMPONENTS
        else SubscriptionRow(
            app="a", namespace="default", pubsub="p", topic="t", kind="streaming", state="paused", reason=text
        )
    )
    for width in (80, 200):
        lines = drawn([row], columns, width)
        assert max(cell_len(line) for line in lines) <= width
        assert "reason" in " ".join(lines)


def test_plain_columns_keep_everything_and_line_up():
    """A pipe gets all columns, aligned by cells, nothing cut, no colours."""
    lines = plain_table(ROWS, APPS).splitlines()
    assert "http 127.0.0.1:3601, grpc 127.0.0.1:50601" in lines[1]
    at = cell_len(lines[0][: lines[0].index("NAMESPACE")])
    assert cell_len(lines[1][: lines[1].index("default")]) == at
    assert "\x1b" not in "".join(lines)


def test_cells_cannot_move_the_cursor():
    """Text of a backend that holds controls or line ends stays in its cell."""
    row = ComponentRow(name="x\x1b[2J", type="t", version="", namespace="n", last_error="a\nb")
    text = plain_table([row], COMPONENTS)
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text


def test_json_and_yaml_are_what_programs_read(capsys):
    """JSON and YAML hold the rows with all fields, non-ASCII as it is; an empty list is an empty list."""
    assert json.loads(as_text(ROWS, Format.JSON))[0]["evidence"] == ["token (2)", "listener"]
    assert yaml.safe_load(as_text(ROWS, Format.YAML))[0]["id"] == "注文サービス-orders"
    show([], APPS, Format.JSON, nothing="no apps")
    assert json.loads(capsys.readouterr().out) == []
    show([], APPS, Format.TABLE, nothing="no apps")
    assert capsys.readouterr().out == "no apps\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (7300, "2h"), (200000, "2d"), (-5, "0s")]
)
def test_spans_are_short(seconds, text):
    """How long ago it was, in its largest unit."""
    assert span(datetime.now(UTC) - timedelta(seconds=seconds, milliseconds=10)) == text


def test_unknown_is_neither_yes_nor_no():
    """A cell says yes, no, or that nobody knows."""
    assert [yes_no(value) for value in (True, False, None)] == ["yes", "no", "-"]


def test_watching_into_a_pipe_gives_one_document_a_look(capsys, monkeypatch):
    """`--watch` with JSON writes one line a look, and Ctrl-C ends it with 0."""
    looks = iter([[ROWS[0]], [ROWS[1]]])
    monkeypatch.setattr("dapr_shared.cli.views.time.sleep", lambda _: None)

    def read():
        try:
            return next(looks)
        except StopIteration:
            raise KeyboardInterrupt from None

    columns = (Column("APP", lambda row: row.id),)
    assert look(read, columns, Format.JSON, nothing="", watch=True, interval=1.0) == 0
    assert [json.loads(line)[0]["id"] for line in capsys.readouterr().out.splitlines()] == [
        "注文サービス-orders",
        "mail",
    ]
