"""The operators' door: a socket of the user's own, and the commands that use it, in a terminal and without one."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from rich.cells import cell_len

from dapr_shared.cli.main import main
from tests.support.apps import until
from tests.support.calls import ask
from tests.support.instance import PATIENCE, app, command, component, environment, run_to_end, running, token_of
from tests.support.terminal import Terminal, in_terminal


@pytest.fixture
def data():
    """A data directory with a short path: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ds-") as folder:
        yield Path(folder)


@pytest.fixture
def lister():
    """An app that answers `/dapr/subscribe` with the topics of a list that the test changes."""
    topics: list[str] = []
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append(self.path)
            rows = ",".join(f'{{"pubsubname":"pubsub","topic":"{topic}","route":"/{topic}"}}' for topic in topics)
            self._send(f"[{rows}]".encode())

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            asked.append(self.path)
            if self.path == "/refuse":
                self._send(b"no such tea", 409)
            elif self.path == "/echo":
                self._send(body)
            else:
                self._send(b"")

        def _send(self, body: bytes, status: int = 200):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, topics, asked
    server.shutdown()
    thread.join()
    server.server_close()


class Commands:
    """Runs commands against one instance."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.data = data

    def run(self, *words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        """A command without a terminal: its exit code, standard output and standard error."""
        done = subprocess.run(
            command(*words, "--data-dir", str(self.data)),
            cwd=self.folder, env=environment(self.folder), input=stdin, capture_output=True, timeout=PATIENCE,
            check=False,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def call(self, *words: str) -> tuple[int, str, str]:
        """The same in this process, which is quicker where the command itself is not the matter."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*words, "--data-dir", str(self.data)])
        return code, out.getvalue(), err.getvalue()

    def rows(self, *words: str) -> list[dict]:
        """The rows of a command that succeeds."""
        code, out, err = self.call(*words, "--output", "json")
        assert (code, err) == (0, "")
        return json.loads(out)

    def screen(self, *words: str, width: int) -> list[str]:
        """What a command that succeeds draws on a terminal, line by line, without colours."""
        code, text = in_terminal(self.folder, *words, "--data-dir", str(self.data), width=width)
        assert code == 0, text
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()


@contextmanager
def served(tmp_path: Path, data: Path, port: int, *resources: dict):
    """An instance with the app `mail` at that port and `cron`, which only calls; and the commands for it."""
    cron = app("cron", listeners={"unixSocket": str(data / "cron.sock")})
    flags = (f"--data-dir={data}",)
    with running(tmp_path, *flags, resources=[app("mail", port), cron, *resources]) as instance:
        yield instance, Commands(tmp_path, data)


def test_refresh_asks_an_app_again(tmp_path, data, lister):
    """`dapr-shared refresh APP` makes the instance read the app's subscriptions again, without a restart of either."""
    port, topics, asked = lister
    with running(tmp_path, f"--data-dir={data}", resources=[app("mail", port)]) as instance:
        until(lambda: asked)
        topics.append("news")
        code, said = run_to_end(tmp_path, "refresh", "mail", "--data-dir", str(data))
        assert (code, said.strip()) == (0, "app mail.default is asked again for its subscriptions")

        def subscribed() -> bool:
            answer = ask(instance.http, "GET", "/v1.0/metadata", headers=[("dapr-api-token", token_of("mail"))])
            return '"topic":"news"' in answer.body.decode()

        until(subscribed)
        code, said = run_to_end(tmp_path, "refresh", "nobody", "--data-dir", str(data))
        assert (code, said.strip()) == (1, "dapr-shared: this instance serves no app nobody.default")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["refresh"], 2, '"refresh" parameter APP_ID requires an argument'),
        (["refresh", "a", "b"], 2, "unexpected argument 'b'"),
        (["refresh", "a", "--nope"], 2, "unknown option: --nope"),
        (["refresh", "--help"], 0, "Usage: dapr-shared refresh"),
        (["refresh", "a", "--data-dir", "/nonexistent"], 1, "no instance answers at /nonexistent/operators.sock"),
        (["apps"], 1, "no instance answers at"),
        (["aps"], 2, 'Did you mean "apps"?'),
        (["apps", "--output", "xml"], 2, 'Choose from: "table", "json", "yaml"'),
        (["apps", "--watch", "--interval", "0.01"], 2, "--interval is a number of seconds, at least 0.5"),
        (["logs", "--lines", "many"], 2, "--lines"),
        (["publish", "pubsub", "news", "x", "--as", "a b"], 2, "is not an app id"),
        (["publish", "pubsub", "news", "x", "--data-file", "y", "--as", "a"], 2, "exclude each other"),
        (["publish", "pubsub", "news", "--data-file", "/nonexistent", "--as", "a"], 2, "/nonexistent cannot be read"),
        (["token", "new", "a|b"], 2, "is not an app id"),
        (["completion", "tcsh"], 2, '"bash", "zsh", "fish"'),
        ([], 2, "Usage: dapr-shared COMMAND"),
    ],
)
def test_wrong_words_and_no_instance(tmp_path, words, code, message):
    """Wrong words and a missing instance are told in a line, with the exit code of each, and nothing on standard output."""
    done = subprocess.run(
        command(*words), cwd=tmp_path, env=environment(tmp_path), capture_output=True, timeout=PATIENCE, check=False
    )
    said = (done.stdout + done.stderr).decode()
    assert (done.returncode, "Traceback" in said) == (code, False)
    assert message in " ".join(said.split())
    if code and words:
        assert done.stdout == b""
        assert done.stderr.count(b"\n") == 1


def test_a_second_instance_leaves_the_door_to_the_first(tmp_path, data):
    """Of two instances with one data directory the second says that the first holds its store, and ends."""
    with running(tmp_path / "one", f"--data-dir={data}", resources=[app("a")]):
        code, said = run_to_end(
            tmp_path, "run", "--app-id", "b", "--data-dir", str(data), "--dapr-http-port", "0", "--dapr-grpc-port", "0",
            "--metrics-port", "0",
        )  # fmt: skip
        assert code == 1
        assert "statestore" in said or "pubsub" in said


def test_the_views_tell_what_is(tmp_path, data, lister):
    """Apps, components, subscriptions and metrics are those of the instance, and no token or digest is among them."""
    port, topics, _ = lister
    topics.append("news")
    with served(tmp_path, data, port) as (instance, commands):
        until(lambda: commands.rows("subscriptions"))
        cron, mail = commands.rows("apps")
        assert (cron["id"], cron["channel"], cron["reachable"]) == ("cron", "", None)
        assert cron["evidence"] == ["token", "listener"]
        assert cron["listeners"] == [f"http unix:{data / 'cron.sock'}"]
        assert (mail["channel"], mail["reachable"]) == (f"http://127.0.0.1:{port}", True)
        assert [(c["name"], c["health"]) for c in commands.rows("components")] == [
            ("configstore", "ok"),
            ("lockstore", "ok"),
            ("pubsub", "ok"),
            ("statestore", "ok"),
        ]
        [news] = commands.rows("subscriptions", "--app", "mail")
        assert (news["topic"], news["state"], news["kind"], news["pending"]) == ("news", "active", "programmatic", 0)
        assert commands.rows("subscriptions", "--app", "cron") == []
        assert instance.ask("GET", "/v1.0/metadata", app="cron").status == 200
        rows = commands.rows("metrics", "dapr_http_server_request_count", "--app", "cron")
        assert [row["value"] for row in rows] == [1.0]
        told = "".join(
            commands.call(*words, "--output", form)[1]
            for words in (["apps"], ["components"], ["subscriptions"], ["metrics", "--all"])
            for form in ("table", "json", "yaml")
        )
        assert token_of("cron") not in told
        assert not re.search(r"\b[0-9a-f]{64}\b", told)
        assert yaml.safe_load(commands.run("apps", "-o", "yaml")[1])[1]["id"] == "mail"


def test_tables_fit_terminals_and_pipes_get_plain_text(tmp_path, data, lister):
    """At 80 and at 200 columns no line is too wide; a pipe gets all columns without an escape sequence."""
    port, _, _ = lister
    with served(tmp_path, data, port) as (_, commands):
        for width in (80, 200):
            for words in [["apps"], ["metrics"]] if width == 80 else [["components"]]:
                lines = commands.screen(*words, width=width)
                assert max(cell_len(line) for line in lines) <= width
        assert "LISTENERS" in commands.screen("apps", width=200)[0]
        out = commands.run("apps")[1]
        assert out.splitlines()[0].split()[:3] == ["APP", "NAMESPACE", "CHANNEL"]
        assert "\x1b" not in out


def test_watch_ends_cleanly(tmp_path, data, lister):
    """`--watch` draws again in its place; Ctrl-C ends it with 0, and the end of the instance with a line and 1."""
    port, _, _ = lister
    with served(tmp_path, data, port):
        words = ("apps", "--watch", "--interval", "0.5", "--data-dir", str(data))
        watching = Terminal(tmp_path, *words)
        watching.wait_for("Ctrl-C ends")
        assert watching.end(signal.SIGINT) == 0
        assert "Traceback" not in watching.text
        watching = Terminal(tmp_path, *words)
        watching.wait_for("Ctrl-C ends")
    assert watching.end() == 1
    assert "no instance answers at" in watching.text


def test_logs_are_followed_and_chosen(tmp_path, data, lister):
    """`logs` shows lines by app and level; `-f` brings new ones until the instance ends."""
    port, _, _ = lister
    with served(tmp_path, data, port) as (instance, commands):
        assert "app is reachable" in commands.call("logs", "--app", "mail")[1]
        assert commands.call("logs", "--level", "error") == (0, "", "")
        assert len(commands.call("logs", "-n", "2")[1].splitlines()) == 2
        following = Terminal(tmp_path, "logs", "-f", "--level", "warn", "--data-dir", str(data), width=400)
        assert instance.ask("GET", "/v1.0/metadata", headers=[("dapr-api-token", "wrong")]).status == 401
        following.wait_for("identity refused")
        assert "listening" not in following.text
        lines = [json.loads(line) for line in commands.call("logs", "-o", "json")[1].splitlines()]
        assert any(line["msg"] == "ready" for line in lines)
    assert following.end() == 0
    assert "the instance has ended" in following.text


def test_following_ends_by_ctrl_c(tmp_path, data, lister):
    """Ctrl-C ends `logs -f` with 0 and without a word."""
    port, _, _ = lister
    with served(tmp_path, data, port):
        following = Terminal(tmp_path, "logs", "-f", "--data-dir", str(data))
        following.wait_for("ready")
        assert following.end(signal.SIGINT) == 0
        assert "Traceback" not in following.text


def test_publish_and_invoke_act_as_an_app(tmp_path, data, lister):
    """The operator publishes and invokes with an app's rights; each act is an audit line, and data never is in it."""
    port, topics, asked = lister
    topics.append("news")
    with served(tmp_path, data, port) as (instance, commands):
        until(lambda: commands.rows("subscriptions"))
        assert commands.run("publish", "pubsub", "news", '{"a":1}', "--as", "cron")[0] == 0
        until(lambda: "/news" in asked)
        binary = bytes(range(256))
        done = subprocess.run(
            command("invoke", "mail", "echo", "--as", "cron", "--data-file", "-", "--data-dir", str(data)),
            cwd=tmp_path, env=environment(tmp_path), input=binary, capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, binary)
        assert commands.run("invoke", "mail", "refuse", "secret-tea") == (
            1, "no such tea", "dapr-shared: mail answered 409 Conflict\n"
        )  # fmt: skip
        code, out, err = commands.call("publish", "elsewhere", "news", "x", "--as", "cron")
        assert (code, out, err) == (1, "", "dapr-shared: pubsub elsewhere is not found (ERR_PUBSUB_NOT_FOUND)\n")
        assert commands.call("invoke", "nobody", "x")[2] == "dapr-shared: this instance serves no app nobody.default\n"
        acts = [line for line in instance.log() if line["msg"] == "operator acts as app"]
        assert [(act["app_id"], act["action"]) for act in acts] == [
            ("cron", "publish"), ("cron", "invoke"), ("mail", "invoke"), ("cron", "publish"),
        ]  # fmt: skip
        assert "secret-tea" not in instance.output()
        assert instance.metric("dapr_shared_operator_actions_total", app_id="cron", action="publish") == 2


def test_the_operator_has_no_more_than_the_apps_rights(tmp_path, data, lister):
    """What the app's Configuration forbids, its operator cannot do in its name; and no other API is behind the door."""
    port, _, _ = lister
    denied = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Configuration",
        "metadata": {"name": "no-publish"},
        "spec": {"api": {"denied": [{"name": "publish", "version": "v1.0", "protocol": "http"}]}},
    }
    bound = app("bound", configuration="no-publish")
    with served(tmp_path, data, port, denied, bound) as (_, commands):
        assert commands.call("publish", "pubsub", "news", "x", "--as", "bound")[0] == 1
        door = str(data / "operators.sock")
        for path in (
            "/v1/apps/mail/invoke/../state/statestore/tea",
            "/v1/apps/mail/publish/../secrets/x/y",
            "/v1/apps/mail/invoke/..%2f..%2fv1.0%2fstate/statestore/tea",
            "/v1/apps/mail/state/statestore/tea",
            "/v1.0/state/statestore/tea",
            "/v1.0/metadata",
        ):
            assert _status(door, path, [("dapr-app-id", "mail")]) in {400, 404, 500}, path
            assert "statestore" not in _body(door, path) or "no GET" in _body(door, path) or "ERR_" in _body(door, path)


def _asked(door: str, path: str, headers=()) -> tuple[int, str]:
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(door)
    connection.request("GET", path, headers=dict(headers))
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def _status(door: str, path: str, headers=()) -> int:
    return _asked(door, path, headers)[0]


def _body(door: str, path: str) -> str:
    return _asked(door, path)[1]


def test_the_door_is_for_its_user_alone(tmp_path, data, lister):
    """The socket has mode 0600 in a directory of mode 0700, other users are refused by the kernel, no port answers it."""
    port, _, _ = lister
    with served(tmp_path, data, port) as (instance, _):
        door = data / "operators.sock"
        assert stat.S_IMODE(door.stat().st_mode) == 0o600
        for address in (instance.http, instance.metrics_address, instance.public, f"unix:{data / 'cron.sock'}"):
            for path in ("/v1/apps", "/v1/doctor", "/v1/apps/mail/publish/pubsub/news"):
                answer = ask(address, "POST" if "publish" in path else "GET", path)
                assert '"evidence"' not in answer.body.decode()
                assert "dapr-shared-operators" not in dict(answer.headers)
        if os.geteuid() == 0:  # as root we may become somebody else and try
            code = (
                "import os,socket,sys\nos.setgroups([]);os.setgid(65534);os.setuid(65534)\ns=socket.socket(socket.AF_UNIX)\n"
                "try: s.connect(sys.argv[1])\nexcept PermissionError: print('refused')"
            )
            done = subprocess.run(["python3", "-c", code, str(door)], capture_output=True, text=True, check=False)
            assert done.stdout == "refused\n"


def test_a_closed_pipe_is_quiet(tmp_path, data, lister):
    """When nobody reads on (`| head`), a command ends without a word, with the code of a broken pipe."""
    port, _, _ = lister
    with served(tmp_path, data, port):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            command("metrics", "--all", "--data-dir", str(data)), cwd=tmp_path, env=environment(tmp_path),
            stdout=writer, stderr=subprocess.PIPE, timeout=PATIENCE, check=False,
        )  # fmt: skip
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, b"")


def test_the_one_instance_is_found_without_its_directory(tmp_path, data, lister):
    """A command without --data-dir finds the one instance of its user; of two it names both and exits with 2."""
    port, _, _ = lister
    with (
        tempfile.TemporaryDirectory(prefix="ds-") as other,
        running(tmp_path, f"--data-dir={data}", resources=[app("mail", port)]),
    ):
        code, said = run_to_end(tmp_path, "apps", "-o", "json")
        assert (code, [row["id"] for row in json.loads(said)]) == (0, ["mail"])
        with running(
            tmp_path / "two", f"--data-dir={other}", app_id="cart", env={"XDG_STATE_HOME": str(tmp_path / "state")}
        ):
            code, said = run_to_end(tmp_path, "apps")
            assert code == 2
            assert f"--data-dir {data}" in said
            assert f"--data-dir {other}" in said
            code, said = run_to_end(tmp_path, "apps", "--data-dir", other, "-o", "json")
            assert [(row["id"], row["evidence"]) for row in json.loads(said)] == [("cart", ["single-app"])]


def test_a_token_is_new_each_time_and_fits_its_digest(tmp_path, capsys):
    """`token new` prints a token of 43 characters and the digest that its App needs, another one each time."""
    import hashlib

    code, said = run_to_end(tmp_path, "token", "new", "shop", "-o", "json")
    made = json.loads(said)
    assert code == 0
    assert len(made["token"]) == 43
    assert made["sha256"] == hashlib.sha256(made["token"].encode()).hexdigest()
    main(["token", "new", "shop"])
    text = capsys.readouterr().out
    assert made["token"] not in text
    assert re.search(r"- sha256: [0-9a-f]{64}\n", text)


def test_versions_and_completion(tmp_path, capsys):
    """`--version` begins with our own version, as JSON too; each shell gets a script that knows the flags of `run`."""
    code, said = run_to_end(tmp_path, "--version")
    assert (code, said.splitlines()[0]) == (0, "dapr-shared 0.1.0")
    assert main(["version", "-o", "json"]) == 0
    assert {"python", "grpcio", "uvloop", "msgspec"} <= json.loads(capsys.readouterr().out).keys()
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert "dapr-http-port" in script
        assert "run-file" in script
        assert "subscriptions" in script
        if shell == "bash":
            assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_run_does_not_load_the_libraries_of_the_other_commands(tmp_path):
    """`dapr-shared run` starts without cyclopts and rich: its start-up time counts."""
    code = (
        "import sys; from dapr_shared.cli.main import main; main(['run', '--help']); "
        "import dapr_shared.runtime.lifecycle; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'cyclopts', 'rich', 'attrs'}))"
    )
    done = subprocess.run(
        [command()[0], "-c", code], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_doctor_names_what_is_wrong_inside(tmp_path, data):
    """Weak tokens, apps that are away, paused subscriptions and open secrets files are found, each with a remedy."""
    import hashlib

    secrets = tmp_path / "secrets.json"
    secrets.write_text("{}")
    secrets.chmod(0o644)
    weak = app("shop", 1, tokens=[{"sha256": hashlib.sha256(b"shop-token").hexdigest()}])
    mute = app("mute", tokens=[])
    news = {
        "apiVersion": "dapr.io/v2alpha1", "kind": "Subscription", "metadata": {"name": "n"},
        "spec": {"pubsubname": "pubsub", "topic": "news", "routes": {"default": "/x"}},
    }  # fmt: skip
    vault = component("vault", "secretstores.local.file", secretsFile=str(secrets))
    with running(tmp_path, f"--data-dir={data}", resources=[weak, mute, news, vault]):
        commands = Commands(tmp_path, data)
        until(lambda: commands.rows("subscriptions")[0]["state"] == "paused")
        code, out, err = commands.call("doctor", "-o", "json")
        assert (code, err) == (1, "")
        found = {(row["check"], row["status"]): row for row in json.loads(out) if row["status"] != "ok"}
        assert all(row["remedy"] for row in found.values())
        assert found["tokens", "error"]["about"] == "app shop.default has a token that is easy to guess"
        assert "app mute.default has no token" in found["tokens", "warning"]["about"]
        assert "app shop.default does not accept connections" in found["apps", "warning"]["about"]
        assert "pubsub/news is paused" in found["subscriptions", "warning"]["about"]
        assert found["file permissions", "warning"]["remedy"] == f"chmod 600 {secrets}"
        assert "   -> " in commands.run("doctor")[1]
