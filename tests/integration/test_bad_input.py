"""Bad input: each command with each mistake a person makes says so in one line, and ends with the right code.

The commands are taken from the command line itself: a new one without a row here fails. A mistake that cannot be made
with a command is named in its row, with the reason.
"""

from __future__ import annotations

import io
import json
import os
import pty
import socket
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dapr_shared.cli.commands import app as commands
from dapr_shared.cli.daprd import main as daprd
from dapr_shared.cli.main import main
from tests.support.instance import PATIENCE, command, environment
from tests.support.terminal import in_terminal

MISSING, EMPTY, POD = "nowhere.yaml", "empty.yaml", "pod.yaml"
NOTHING_THERE = {MISSING: "does not exist", EMPTY: "is empty", POD: "Pod"}


@dataclass(frozen=True)
class Row:
    """How a command is used rightly, and where it can be used wrongly."""

    right: tuple[str, ...] = ()
    files: tuple[tuple[str, ...], ...] = ()
    """The words that go before the path of a file of resources."""
    asks: bool = False
    """Whether it asks a running instance and cannot do without."""
    any_number: str = ""
    """Why it has no surplus argument."""
    more: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Further mistakes of wrong words, and what is said."""


ROWS = {
    "apps": Row(asks=True, more={("--watch", "--interval", "0"): "at least 0.5"}),
    "completion": Row(("bash",), more={("tcsh",): "tcsh"}),
    "components": Row(asks=True, more={("--output", "xml"): "xml"}),
    "doctor": Row(files=((),), any_number="each argument is a path"),
    "init": Row((".",), more={("x", "--port", "0"): "a port is between 1 and 65535"}),
    "invoke": Row(
        ("shop", "orders", "data"), asks=True,
        more={
            ("shop", "orders", "--data-file", MISSING): "cannot be read: No such file or directory; name another file",
            ("a b", "orders"): "app id",
            ("shop",): "method",
        },
    ),
    "logs": Row(asks=True, more={("--level", "loud"): "loud", ("--lines", "many"): "many"}),
    "metrics": Row(asks=True, any_number="each argument is the beginning of a name"),
    "publish": Row(
        ("pubsub", "topic", "data", "--as", "shop"), asks=True,
        more={
            ("pubsub", "topic", "--as", "shop", "-f", MISSING): "cannot be read: No such file or directory; name another",
            ("pubsub", "topic", "data"): "--as",
        },
    ),
    "refresh": Row(("shop",), asks=True, more={(): "requires an argument"}),
    "run": Row(
        ("--app-id", "x"), files=(("-f",), ("--apps",), ("--app-id=x", "--resources-path"), ("--app-id=x", "--config"),
                                ("--app-id=x", "--components-path")),
        more={
            ("-f", POD, "--app-id", "x"): "--app-id does not go with -f",
            ("--apps", "run.yaml"): "is a run file: start it with -f run.yaml",
        },
    ),
    "subscriptions": Row(asks=True),
    "token new": Row(("shop",), more={("a b",): "app id", (): "requires an argument"}),
    "validate": Row(files=((),), any_number="each argument is a path", more={(): "name the files or directories"}),
    "version": Row(),
}  # fmt: skip
SURPLUS = [name for name, row in ROWS.items() if not row.any_number]
WITH_FILES = [(name, words) for name, row in ROWS.items() for words in row.files]
WITH_MORE = [(name, words, said) for name, row in ROWS.items() for words, said in row.more.items()]
ASKING = [name for name, row in ROWS.items() if row.asks]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with an empty file and a foreign one, and no instance anywhere."""
    (tmp_path / EMPTY).touch()
    (tmp_path / POD).write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n")
    (tmp_path / "run.yaml").write_text("version: 1\napps: [{appDirPath: .}]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def ended(*words: str, entry=main) -> tuple[int, str, str]:
    """A command in this process, without a terminal: exit code, output, errors."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = entry(list(words))
    return code, out.getvalue(), err.getvalue()


def ended_in_terminals(*words: str, entry=main) -> tuple[int, str, str]:
    """The same with a pseudo-terminal for each of output and errors."""
    (out, out_end), (err, err_end) = pty.openpty(), pty.openpty()
    with os.fdopen(out_end, "w") as out_file, os.fdopen(err_end, "w") as err_file:
        with redirect_stdout(out_file), redirect_stderr(err_file):
            code = entry(list(words))
        for file in (out_file, err_file):
            file.write("\n<end>")
            file.flush()
        texts = [_until_end(fd) for fd in (out, err)]
    os.close(out)
    os.close(err)
    return code, *texts


def _until_end(fd: int) -> str:
    text = ""
    while not text.endswith("<end>"):
        text += os.read(fd, 65536).decode().replace("\r\n", "\n")
    return text.removesuffix("\n<end>")


def expect(code: int, said: str, *words: str, entry=main) -> None:
    """Both ways: nothing on standard output, one line on standard error that says so, this code."""
    for run in (ended, ended_in_terminals):
        got, out, err = run(*words, entry=entry)
        assert (got, out) == (code, ""), (words, got, out, err)
        assert (err.count("\n"), err[-1:]) == (1, "\n"), (words, err)
        assert err.startswith("dapr" if entry is daprd else "dapr-shared"), err
        assert said in err, (words, err)
        assert not any(word in err for word in ("Traceback", "defect", "\x1b")), err


def _all_commands(app) -> set[str]:
    names = {name for name in app if not name.startswith("-")}
    found = set()
    for name in names:
        below = _all_commands(app[name])
        found |= {f"{name} {inner}" for inner in below} or {name}
    return found


def test_every_command_has_its_row():
    """The commands here are those that the command line has; none can be forgotten."""
    assert set(ROWS) == _all_commands(commands)


@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_flag(folder, name):
    """An unknown flag is wrong words (2): it is named, and where the right ones are written."""
    expect(2, "--no-such-flag", *name.split(), *ROWS[name].right, "--no-such-flag")
    expect(2, f"`dapr-shared {name} --help` says what is taken", *name.split(), *ROWS[name].right, "--no-such-flag")


@pytest.mark.parametrize("name", SURPLUS)
def test_a_surplus_argument(folder, name):
    """A word too many is wrong words (2), and the word is named."""
    right = () if name == "run" else ROWS[name].right  # behind an app id the word would be the app's command
    expect(2, "surplus", *name.split(), *right, "surplus")


@pytest.mark.parametrize("file", NOTHING_THERE)
@pytest.mark.parametrize(("name", "words"), WITH_FILES)
def test_a_file_that_is_none(folder, name, words, file):
    """A file that is absent, empty or of another kind is wrong words (2): which, and what to name instead."""
    expect(2, NOTHING_THERE[file], name, *words, file)
    expect(2, file, name, *words, file)


@pytest.mark.parametrize(("name", "words", "said"), WITH_MORE)
def test_more_wrong_words(folder, name, words, said):
    """What else can be wrong with the words of a command ends with 2 and is named."""
    expect(2, said, *name.split(), *words)


@pytest.mark.parametrize("name", ASKING)
def test_no_instance(folder, name):
    """Without an instance a command that asks one fails (1): where it looked, and how to start one."""
    said = f"no instance answers at {folder}/state/dapr-shared/operators.sock: start one with `dapr-shared run`"
    expect(1, said, name, *ROWS[name].right)
    expect(1, "no instance answers at elsewhere/operators.sock", name, *ROWS[name].right, "--data-dir", "elsewhere")
    expect(1, f"no instance answers at {EMPTY}/operators.sock", name, *ROWS[name].right, "--data-dir", EMPTY)


@pytest.mark.parametrize("words", [("--no-such-flag",), ("surplus",), ("--app-port", "http")])
def test_daprd(folder, words):
    """`daprd` has one line for wrong words too, and daprd's code for them: 2."""
    expect(2, "`daprd --help` says what is taken", *words, entry=daprd)


def test_no_command(folder):
    """A command that does not exist is wrong words (2)."""
    expect(2, "--help` says what is taken", "restart")


MISTAKES = [
    (2, ["validate", POD]),
    (2, ["validate", "--no-such-flag"]),
    (2, ["run"]),
    (2, ["run", "--app-id", "x", "--mode=cloud"]),
    (2, ["run", "--app-id", "x", "--apps", "."]),
    (2, ["run", "-f", EMPTY]),
    (1, ["apps"]),
]


@pytest.mark.parametrize(
    ("code", "words"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_the_real_process(folder, code, words):
    """The same of real processes, with pipes and in a terminal: the line stands alone."""
    done = subprocess.run(
        command(*words), cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done
    assert in_terminal(folder, *words) == (code, done.stderr)


AS_NOBODY = """
import contextlib, io, json, os, sys
from dapr_shared.cli.main import main
def ended(words):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(words)
    return code, out.getvalue(), err.getvalue()
given = json.loads(sys.argv[1])
for words in given:  # what is imported late may lie where the other user cannot read
    ended(words)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
json.dump([ended(words) for words in given], sys.stdout)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_instance_of_another_user(folder):
    """Its commands fail (1) with who may; files that another user may not read are wrong words (2); no traceback."""
    with tempfile.TemporaryDirectory(prefix="ds-") as data, socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{data}/operators.sock")  # nobody listens: the directory alone, of mode 0700, refuses
        secret = Path(data) / "app.yaml"
        secret.write_text("apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: x}\nspec: {}\n")
        asking = [[name, *ROWS[name].right, "--data-dir", data] for name in ASKING]
        reading = [[name, *words, str(secret)] for name, words in WITH_FILES if name != "run"]
        reading += [["run", *words, str(Path(data) / MISSING)] for name, words in WITH_FILES if name == "run"]
        writing = [["init", f"{data}/starter"]]
        looking = [["doctor", "--data-dir", data]]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, json.dumps(asking + reading + writing + looking)],
            cwd="/", env=environment(folder), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        for words, (code, out, err) in zip(asking, found, strict=False):
            said = f"dapr-shared: {data}/operators.sock belongs to another user: run this as the user of the instance\n"
            assert (code, out, err) == (1, "", said), words
        found = found[len(asking) :]
        for words, (code, out, err) in zip(reading, found, strict=False):
            assert (code, out, err.count("\n")) == (2, "", 1), (words, err)
            assert "Permission denied" in err
        (code, out, err), (looked, report, unsaid) = found[len(reading) :]
        assert (code, out, err.count("\n")) == (1, "", 1), err
        assert "Permission denied" in err
        assert (looked, unsaid) == (1, "")
        assert f"{data} is closed to you\n           -> run this as the instance's user" in report
        assert "cannot be seen" in report
