"""`dapr-shared logs`, `publish` and `invoke`: following an instance's log, and calling its API as an app."""

from __future__ import annotations

import base64
import http
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from dapr_shared.cli.door import path_of
from dapr_shared.cli.output import Format, as_text, coloured, say, write
from dapr_shared.cli.problem import FAILED, USAGE, CommandError
from dapr_shared.core.ids import app_id_problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from http.client import HTTPResponse

    from dapr_shared.cli.door import Door

MOST_DATA = 64 * 1024 * 1024
"""Bytes of a message or a body that are read from a file."""
_PIECE = 64 * 1024
_COLOURS = {"debug": "36", "info": "32", "warning": "33", "error": "31", "fatal": "1;31"}
_HEAD = ("time", "level", "scope", "msg")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the API as an app."""

    as_app: str
    body: bytes
    content_type: str = ""
    metadata: Sequence[str] = ()
    """`NAME=VALUE` each."""

    def headers(self) -> dict[str, str]:
        """Of the request; the media type is JSON where the data is JSON."""
        if not self.body and not self.content_type:
            return {}
        return {"content-type": self.content_type or ("application/json" if _is_json(self.body) else "text/plain")}


def show_log(door: Door, *, follow: bool, app: str, level: str, lines: int, form: str) -> int:
    """Write the last lines and, with `follow`, new ones until Ctrl-C or the end of the instance.

    `form`: text, json (a line each) or yaml (a document each).
    """
    colour = coloured() and form == "text"
    query = {"app": app, "level": level, "lines": str(lines), "follow": "true" if follow else ""}
    try:
        for line in door.lines("logs", endless=follow, **query):
            if form == "json":
                write(line.decode("utf-8", "replace"))
            elif form == "yaml":
                write("---\n" + as_text(json.loads(line), Format.YAML))
            else:
                write(_line(line, colour=colour))
    except KeyboardInterrupt:
        return 0
    if follow:
        print("dapr-shared: the instance has ended", file=sys.stderr)
    return 0


def _line(data: bytes, *, colour: bool) -> str:
    fields: dict[str, Any] = json.loads(data)
    time, level, scope, message = (str(fields.get(name, "")) for name in _HEAD)
    shown = f"{level:<7}"
    if colour:
        shown = f"\x1b[{_COLOURS.get(level, '0')}m{shown}\x1b[0m"
    rest = " ".join(f"{name}={_shown(value)}" for name, value in fields.items() if name not in _HEAD and value != "")
    return " ".join(part for part in (time, shown, f"{scope}:" if scope else "", message, rest) if part) + "\n"


def _shown(value: object) -> str:
    if isinstance(value, str) and value and not set(value) & set(" \"'=\\,{}[]"):
        return value
    return json.dumps(value, ensure_ascii=False)


def body_of(data: str, file: str) -> bytes:
    """The data given in words, in a file, or on standard input (`-`). Raises `CommandError`."""
    if data and file:
        raise CommandError("--data and --data-file exclude each other: give one", USAGE)
    if not file:
        return data.encode("utf-8", "surrogateescape")
    try:
        if file == "-":
            content = sys.stdin.buffer.read(MOST_DATA + 1)
        else:
            with Path(file).open("rb") as stream:
                content = stream.read(MOST_DATA + 1)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}; name another file", USAGE) from error
    if len(content) > MOST_DATA:
        raise CommandError(f"{file} is larger than {MOST_DATA // 1024 // 1024} MiB", USAGE)
    return content


def publish_message(door: Door, call: Call, pubsub: str, topic: str, form: Format) -> int:
    """Publish; the exit code. What the API refuses is told as it says it."""
    pairs = [pair.partition("=") for pair in call.metadata]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise CommandError(f"--metadata {name!r}: expected NAME=VALUE", USAGE)
    query = urlencode([(f"metadata.{name}", value) for name, _, value in pairs])
    path = path_of("apps", _app(call.as_app), "publish", pubsub, topic) + (f"?{query}" if query else "")
    with door.call("POST", path, call.body, call.headers()) as response:
        content = response.read()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise CommandError(_problem(response, content))
    said = {"pubsub": pubsub, "topic": topic, "app": call.as_app}
    say(f"published to {pubsub}/{topic} as {call.as_app}", said, form)
    return 0


def invoke_method(door: Door, call: Call, target: str, method: str, verb: str, form: Format) -> int:
    """Call and write the answer's body as it is, or with its status as data; 1 when the status says that it went wrong."""
    if not verb.isalpha():
        raise CommandError(f"--verb {verb!r} is not an HTTP verb", USAGE)
    path, question, query = method.lstrip("/").partition("?")
    what = f"{path_of('apps', _app(call.as_app), 'invoke', target, 'method')}/{quote(path, safe='/%:@!$&()*+,;=~')}"
    with door.call(
        verb, what + question + quote(query, safe="=&%+/?:@,;"), call.body or None, call.headers()
    ) as response:
        if form is Format.TABLE:
            _pass_on(response)
        else:
            write(as_text(_answer(response), form))
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            print(f"dapr-shared: {target} answered {response.status} {response.reason}", file=sys.stderr)
            return FAILED
    return 0


def _pass_on(response: HTTPResponse) -> None:
    """Write the body as it comes, whatever it is."""
    sys.stdout.flush()
    last = b""
    while piece := response.read(_PIECE):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        last = piece
    if sys.stdout.isatty() and last and not last.endswith(b"\n"):
        write("\n")


def _answer(response: HTTPResponse) -> dict[str, Any]:
    """Status and body as data: JSON as it is, text as a text, anything else in base64."""
    body = response.read(MOST_DATA + 1)
    if len(body) > MOST_DATA:
        raise CommandError(
            f"the answer is larger than {MOST_DATA // 1024 // 1024} MiB: take it as it is, without --output"
        )
    told: dict[str, Any] = {
        "status": response.status,
        "reason": response.reason,
        "contentType": response.getheader("content-type", ""),
    }
    if body and _is_json(body):
        return told | {"body": json.loads(body)}
    try:
        return told | {"body": body.decode()}
    except UnicodeDecodeError:
        return told | {"bodyBase64": base64.b64encode(body).decode()}


def _app(text: str) -> str:
    app_id, dot, namespace = text.partition(".")
    problem = app_id_problem(app_id) or ("the namespace is empty" if dot and not namespace else None)
    if problem:
        raise CommandError(problem, USAGE)
    return text


def _problem(response: HTTPResponse, content: bytes) -> str:
    try:
        fields: Any = json.loads(content)
        message = fields.get("message") or content.decode()
        code = fields.get("errorCode", "")
    except (ValueError, AttributeError):
        return f"the API answered {response.status} {response.reason}"
    return f"{message} ({code})" if code else message


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True
