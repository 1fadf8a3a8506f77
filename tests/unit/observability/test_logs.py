"""Log lines have a fixed form, hold no secrets, cannot be forged, and never stop the process."""

from __future__ import annotations

import io
import json
import logging
import stat
import threading
import warnings
from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.observability.log_safety import is_secret_name, one_line, without_credentials
from dapr_shared.observability.log_writer import LogWriter
from dapr_shared.observability.logs import LogOfApp, LogOptions, Logs, parse_level
from tests.support.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


TIME = "2026-01-01T00:00:00.120450Z"


def clock() -> FakeClock:
    """A clock that stands at TIME."""
    fake = FakeClock()
    fake.advance(0.12045)
    return fake


def written(write: Callable[[Logs], Any], **options: Any) -> str:
    """What `write` makes the log write."""
    stream = io.BytesIO()
    with Logs(LogOptions(instance="host-1", version="0.1.0", **options), stream=stream, clock=clock()) as logs:
        write(logs)
    return stream.getvalue().decode()


def test_console_lines() -> None:
    """For people: time, level, scope, message, then the fields, quoted where they need it."""
    text = written(
        lambda logs: logs.logger("dapr.runtime").warning(
            "app is not healthy",
            app_id="shop",
            n=3,
            ratio=0.5,
            ok=False,
            nothing=None,
            empty="",
            problem="no answer",
            hosts=["a", "b"],
        )
    )
    assert text == (
        f"{TIME} [warning] dapr.runtime: app is not healthy app_id=shop n=3 ratio=0.5 ok=false nothing=null "
        'empty="" problem="no answer" hosts=["a","b"]\n'
    )


def test_json_lines() -> None:
    """For collectors: one JSON object with Dapr's field names."""
    text = written(
        lambda logs: logs.logger("dapr.runtime").info("HTTP API Called", method="GET /v1.0/healthz", code=204),
        as_json=True,
    )
    assert text == (
        f'{{"time":"{TIME}","level":"info","type":"log","msg":"HTTP API Called","scope":"dapr.runtime","app_id":"",'
        '"instance":"host-1","ver":"0.1.0","method":"GET /v1.0/healthz","code":204}\n'
    )


def test_the_app_of_a_single_app_instance_is_on_every_line() -> None:
    """In single-app mode lines name that app, unless they are about another one."""
    text = written(
        lambda logs: (logs.logger("s").info("a"), logs.logger("s").info("b", app_id="other")),
        as_json=True,
        app_id="shop",
    )
    assert [json.loads(line)["app_id"] for line in text.splitlines()] == ["shop", "other"]


def test_a_field_cannot_take_the_place_of_a_fixed_one() -> None:
    """A field with the name of a fixed one is written under a name of its own."""
    line = json.loads(written(lambda logs: logs.logger("s").info("m", type="state.redis", time=5), as_json=True))
    assert (line["type"], line["fields.type"]) == ("log", "state.redis")
    assert (line["time"], line["fields.time"]) == (TIME, 5)


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("debug", "debug"),
        ("info", "info"),
        ("warning", "warning"),
        ("warn", "warning"),
        ("error", "error"),
        ("fatal", "fatal"),
        ("critical", "fatal"),
    ],
)
def test_levels_have_dapr_s_names(method: str, level: str) -> None:
    """The level is one of debug, info, warning, error and fatal."""
    line = written(lambda logs: getattr(logs.logger("s"), method)("m"), as_json=True, level="debug")
    assert json.loads(line)["level"] == level


def test_lines_below_the_level_are_not_written() -> None:
    """`--log-level` is the lowest level that is written."""
    text = written(
        lambda logs: [getattr(logs.logger("s"), name)(name) for name in ("debug", "info", "warning", "error")],
        level="Warn",
    )
    assert [line.split()[-1] for line in text.splitlines()] == ["warning", "error"]


def test_levels_are_checked() -> None:
    """A wrong level is an error that names the right ones."""
    assert parse_level("FATAL") == logging.CRITICAL
    with pytest.raises(ValueError, match="'loud' is not a log level: use debug, info, warn, error or fatal"):
        Logs(LogOptions(level="loud"), stream=io.BytesIO())


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("forged", ["\n", "\r\n", "\x0b", "\x1b[2K", "\x85", "\u2028", "\u202e", "\x00", "\udcff"])
def test_a_value_cannot_forge_a_line(forged: str, *, as_json: bool) -> None:
    """Controls, line separators and direction marks in any text are escaped: one event is one line."""
    evil = f"x{forged}{TIME} [error  ] dapr.runtime: all your base"
    text = written(
        lambda logs: logs.logger("s").info(
            evil, value=evil, nested={evil: [evil]}, raw=evil.encode("utf-8", "replace")
        ),
        as_json=as_json,
    )
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    if as_json:
        assert one_line(evil) == json.loads(text)["msg"]


def fail_with(message: str) -> None:
    raise ValueError(message)


def test_a_traceback_cannot_forge_a_line() -> None:
    """Each line of a traceback begins with a bar, those that its message makes up among them; no local variables."""

    def fail(logs: Logs) -> None:
        api_token = "the-" + "token"
        try:
            fail_with(f"bad\n{TIME} [error  ] forged\x1b[0m password=hunter2 {len(api_token)}")
        except ValueError:
            logs.logger("s").exception("failed")

    first, *rest = written(fail).splitlines()
    assert first == f"{TIME} [error  ] s: failed"
    assert rest[0] == "    | Traceback (most recent call last):"
    assert rest[-2:] == ["    | ValueError: bad", f"    | {TIME} [error  ] forged\\x1b[0m password=*** 9"]
    assert all(line.startswith("    | ") for line in rest)
    assert "the-token" not in "".join(rest)
    line = json.loads(written(fail, as_json=True))
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert "hunter2" not in line["exception"]


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "dapr-api-token",
        "DAPR_API_TOKEN",
        "password",
        "redisPassword",
        "client_secret",
        "Authorization",
        "apiKey",
        "api_key",
        "connectionString",
        "accessKey",
        "cookie",
        "credentials",
    ],
)
def test_secret_names(name: str) -> None:
    """Values of these names never reach a log, at any depth."""
    assert is_secret_name(name)
    text = written(
        lambda logs: logs.logger("s").info(
            "m", **{name: "hunter2"}, deep={"a": {name: ["hunter2"]}}, as_bytes={name: b"hunter2"}
        )
    )
    assert "hunter2" not in text
    assert text.count("***") == 3


@pytest.mark.parametrize(
    "name", ["secret_store", "secretstores", "token_count", "tokenizer", "operation", "passwordless"]
)
def test_names_that_only_sound_secret(name: str) -> None:
    """A name that merely holds such a word is shown."""
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:hunter2@host:6379/0", "redis://user:***@host:6379/0"),
        ("postgres://:hunter2@host/db?x=1", "postgres://:***@host/db?x=1"),
        ("dsn host=x password=hunter2 port=1", "dsn host=x password=*** port=1"),
        ("{'password': 'hunter2', 'a': 1}", "{'password': '***', 'a': 1}"),
        (r"'a\npassword=hunter2'", r"'a\npassword=***'"),
        ('{"token":"hunter2"}', '{"token":"***"}'),
        ("sent Authorization: Bearer hunter2hunter2", "sent Authorization: *** ***"),
        ("dapr-api-token: hunter2", "dapr-api-token: ***"),
        ("basic aHVudGVyMg==", "basic ***"),
        ("invalid api token: no app of this instance has it", "invalid api token: no app of this instance has it"),
        ("http://host:80/a@b", "http://host:80/a@b"),
    ],
)
def test_credentials_inside_texts(text: str, shown: str) -> None:
    """Credentials in URLs, connection strings and headers are masked; other texts stay as they are."""
    assert without_credentials(text) == shown


@given(st.text(max_size=50))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    """Whatever the text, what is written has no line ends and can be encoded."""
    safe = one_line(text)
    assert len(safe.splitlines()) <= 1
    assert safe.encode().decode() == safe


def test_values_are_bounded() -> None:
    """A value without end is cut, and so are long lists and deep nestings; unknown objects are shown as texts."""
    deep: Any = {"end": "here"}
    for _ in range(10):
        deep = {"d": deep}
    line = json.loads(
        written(
            lambda logs: logs.logger("s").info(
                "m", long="x" * 100_000, many=list(range(1000)), deep=deep, odd=timezone(timedelta(0))
            ),
            as_json=True,
        )
    )
    assert len(line["long"]) == 4097
    assert len(line["many"]) == 50
    assert isinstance(line["deep"]["d"]["d"]["d"]["d"], str)
    assert line["odd"] == "UTC"


def test_colours_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets colours, unless NO_COLOR asks otherwise; nothing else does."""

    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    def text() -> bytes:
        stream = Terminal()
        with Logs(LogOptions(), stream=stream, clock=clock()) as logs:
            logs.logger("s").error("m", a=1)
        return stream.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert b"\x1b[31m" in text()
    monkeypatch.setenv("NO_COLOR", "1")
    assert text() == f"{TIME} [error  ] s: m a=1\n".encode()


def test_standard_logging_is_captured_and_let_go() -> None:
    """What libraries log and warn comes out in the same form, from warnings upward, and only while the log is open."""
    before = (logging.getLogger().handlers[:], logging.getLogger().level)

    def use(logs: Logs) -> None:
        logs.capture_standard_logging()
        logging.getLogger("library").warning("slow: %d ms, token=%s", 5, "hunter2")
        logging.getLogger("library").info("password is hunter2")
        logging.getLogger("library").error("wrong %d", "format")
        logging.getLogger("library").critical("end", exc_info=ValueError("why"))
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old\nway", DeprecationWarning, stacklevel=1)

    lines = written(use, level="debug").splitlines()
    assert lines[:5] == [
        f"{TIME} [warning] library: slow: 5 ms, token=***",
        f"{TIME} [error  ] library: wrong %d",
        f"{TIME} [fatal  ] library: end",
        "    | ValueError: why",
        lines[4],
    ]
    assert lines[4].startswith(f"{TIME} [warning] py.warnings: ")
    assert r"DeprecationWarning: old\nway" in lines[4]
    assert len(lines) == 5
    assert (logging.getLogger().handlers[:], logging.getLogger().level) == before


def test_log_file(tmp_path: Path) -> None:
    """`--log-file` appends to the file instead of standard output; a file that cannot be opened is an error."""
    path = tmp_path / "a.log"
    for number in (1, 2):
        with Logs(LogOptions(file=str(path)), clock=clock()) as logs:
            logs.logger("s").info("m", n=number)
    assert path.read_text() == f"{TIME} [info   ] s: m n=1\n{TIME} [info   ] s: m n=2\n"
    with pytest.raises(FileNotFoundError):
        Logs(LogOptions(file=str(tmp_path / "no" / "a.log")))


def test_standard_output_is_the_default(capfd: pytest.CaptureFixture[str]) -> None:
    """Without a file the lines go to standard output."""
    with Logs(LogOptions(), clock=clock()) as logs:
        logs.logger("s").info("m")
    assert capfd.readouterr().out == f"{TIME} [info   ] s: m\n"


class Gate:
    """A stream that takes nothing until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.text = b""

    def write(self, data: memoryview, /) -> int | None:
        self.entered.set()
        self.open.wait(10)
        part = bytes(data[:7])
        self.text += part
        return len(part)


def test_a_stuck_stream_costs_lines_not_time() -> None:
    """While nothing can be written the queue fills and the rest is dropped; a line tells how many afterwards."""
    gate = Gate()
    writer = LogWriter(gate, lambda count: b"%d lines were dropped" % count, lines=3)
    writer.write(b"first")
    assert gate.entered.wait(10)
    for number in range(10):
        writer.write(b"line %d" % number)
    assert writer.dropped == 7
    gate.open.set()
    writer.close(10)
    assert gate.text == b"first\nline 0\nline 1\nline 2\n7 lines were dropped\n"
    writer.write(b"late")
    writer.close()
    assert writer.dropped == 8


def test_closing_does_not_wait_for_a_stuck_stream() -> None:
    """The end of the process waits a bounded time for the log."""
    gate = Gate()
    writer = LogWriter(gate, lambda _count: b"")
    writer.write(b"x")
    assert gate.entered.wait(10)
    writer.close(0.01)
    assert gate.text == b""
    gate.open.set()


def test_a_stream_that_fails_is_counted_and_survived() -> None:
    """A closed pipe or a full disk drops lines; when it can be written again, the log says how many."""
    calls: list[bytes] = []
    called = threading.Event()

    class Failing:
        def write(self, data: memoryview, /) -> int | None:
            calls.append(bytes(data))
            called.set()
            if len(calls) == 1:
                raise BrokenPipeError
            return None if len(calls) == 2 else len(data)

    writer = LogWriter(Failing(), lambda count: b"%d dropped" % count)
    writer.write(b"lost")
    assert called.wait(10)
    writer.write(b"kept")
    writer.close(10)
    assert calls[-1] == b"kept\n1 dropped\n"
    assert writer.dropped == 1


def test_dropped_lines_are_told_in_the_log_s_own_form() -> None:
    """The line about dropped lines looks like every other one."""
    stream = io.BytesIO()
    with Logs(LogOptions(instance="h", as_json=True), stream=stream, clock=clock()) as logs:
        line = json.loads(logs._dropped_line(3))
        assert logs.dropped == 0
    assert (line["level"], line["msg"], line["scope"], line["count"]) == (
        "warning",
        "log lines were dropped",
        "dapr.runtime",
        3,
    )


def test_each_app_may_have_a_level_of_its_own() -> None:
    """Lines about an app are written from its level on, above or below that of the log; others have the log's."""
    stream = io.BytesIO()
    with Logs(LogOptions(level="warn", as_json=True), stream=stream) as logs:
        log = logs.logger("test")
        logs.set_levels_of_apps({"loud": "debug", "quiet": "error"})
        for app_id in ("loud", "quiet", "other"):
            log.debug("debug", app_id=app_id)
            log.warning("warning", app_id=app_id)
            log.error("error", app_id=app_id)
        log.info("of no app")
        logs.set_levels_of_apps({})
        log.debug("loud again", app_id="loud")
    lines = [json.loads(line) for line in stream.getvalue().decode().splitlines()]
    written = [f"{line['app_id']} {line['msg']}" for line in lines]
    assert written == ["loud debug", "loud warning", "loud error", "quiet error", "other warning", "other error"]


@pytest.mark.parametrize("own_file", [True, False])
def test_lines_about_an_app_go_where_it_says(tmp_path, own_file):
    """To its file and not to the log, warnings to the console too; or to the console alone; others go as ever."""
    file, console = tmp_path / "log", io.BytesIO()
    apps = {"filed": LogOfApp(str(tmp_path / "filed"), console=False), "both": LogOfApp(str(tmp_path / "both"), console=True),
            "shown": LogOfApp("", console=True)}  # fmt: skip
    options = LogOptions(file=str(file) if own_file else "", as_json=True, private=True, apps=apps)
    with Logs(options, **({"copy": console} if own_file else {"stream": console})) as logs:
        for app_id in ("filed", "both", "shown", "other"):
            logs.logger("test").info("calm", app_id=app_id)
            logs.logger("test").warning("warned", app_id=app_id)

    def told(text: bytes) -> list[str]:
        return [f"{line['app_id']} {line['msg']}" for line in map(json.loads, text.splitlines())]

    assert told((tmp_path / "filed").read_bytes()) == ["filed calm", "filed warned"]
    assert told((tmp_path / "both").read_bytes()) == ["both calm", "both warned"]
    of_apps = ["filed warned", "both calm", "both warned", "shown calm", "shown warned"]
    if own_file:
        assert told(file.read_bytes()) == ["other calm", "other warned"]
        assert told(console.getvalue()) == [*of_apps, "other warned"]
    else:
        assert told(console.getvalue()) == [*of_apps, "other calm", "other warned"]
    for made in (tmp_path / "filed", *([file] if own_file else [])):
        assert stat.S_IMODE(made.stat().st_mode) == 0o600


@pytest.mark.parametrize(("everything", "copied"), [(False, ["two", "three"]), (True, ["one", "two", "three"])])
def test_a_copy_of_the_log(tmp_path, everything, copied):
    """A second place gets warnings and errors, or all lines; the first gets all in either case."""
    file, console = tmp_path / "log", io.BytesIO()
    with Logs(LogOptions(file=str(file), as_json=True), copy=console, copy_all=everything) as logs:
        logger = logs.logger("test")
        logger.info("one")
        logger.warning("two")
        logger.error("three")
    assert [json.loads(line)["msg"] for line in file.read_bytes().splitlines()] == ["one", "two", "three"]
    assert [json.loads(line)["msg"] for line in console.getvalue().splitlines()] == copied
