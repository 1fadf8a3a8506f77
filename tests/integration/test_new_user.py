"""The path of a new user: the starter folder, and the commands that its first page names."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.support.apps import until
from tests.support.calls import ask
from tests.support.instance import PATIENCE, command, environment, free_ports, run_to_end
from tests.support.terminal import Terminal


def started(folder, *words: str, **fields) -> tuple[int, str, str]:
    done = subprocess.run(
        command(*words), cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=PATIENCE,
        check=False, **fields,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_init_run_curl_doctor_ctrl_c(tmp_path):
    """`init` writes a folder that `run -f` starts as it stands; orders reach mail; doctor finds nothing; Ctrl-C ends all."""
    http, grpc, first = free_ports(3)
    code, said, err = started(tmp_path, "init", "shop", "--port", str(first), "-o", "json")
    assert (code, err) == (0, "")
    ports = json.loads(said)["ports"]
    assert started(tmp_path, "validate", "shop", "--strict")[0] == 0
    words = ("run", "-f", "shop", "--dapr-http-port", str(http), "--dapr-grpc-port", str(grpc))
    running = Terminal(tmp_path, *words, width=200)
    try:
        running.wait_for("orders listens")
        running.wait_for("mail listens")
        orders, mail = f"127.0.0.1:{ports['orders']}", f"127.0.0.1:{ports['mail']}"
        headers = [("content-type", "application/json")]

        def placed() -> bool:
            answer = ask(orders, "POST", "/orders", b'{"item": "tea"}', headers=headers)
            return answer.status == 201 and json.loads(answer.body)["item"] == "tea"

        until(placed)
        until(lambda: b"Thank you for your order of tea" in ask(mail, "GET", "/mails").body)
        code, said, err = started(tmp_path, "apps", "-o", "json")
        assert [row["id"] for row in json.loads(said)] == ["mail", "orders"]
        until(lambda: all(row["reachable"] for row in json.loads(started(tmp_path, "apps", "-o", "json")[1])))
        code, said, err = started(tmp_path, "doctor", "shop", "-o", "json")
        wrong = [row for row in json.loads(said) if row["status"] not in {"ok", "skipped"}]
        assert (code, err, wrong) == (0, "", [])
    except BaseException:
        running.process.kill()
        raise
    assert running.end(signal.SIGINT) == 0, running.text
    for address in (orders, mail):
        with pytest.raises(OSError, match="refused"):
            ask(address, "GET", "/")


def test_init_never_overwrites_unless_told(tmp_path):
    """A file that is there stays, and then nothing at all is written; --force replaces it."""
    (tmp_path / "shop" / "mail").mkdir(parents=True)
    mine = tmp_path / "shop" / "mail" / "app.py"
    mine.write_text("mine")
    code, out, err = started(tmp_path, "init", "shop")
    assert (code, out) == (1, "")
    assert "shop/mail/app.py exists already: name another directory, or overwrite with --force" in err
    assert mine.read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == ["mail"]
    assert started(tmp_path, "init", "shop", "--force")[0] == 0
    assert "The app `mail`" in mine.read_text()
    assert not list((tmp_path / "shop").rglob("*.new"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["init", "file"], 1, "file is not a directory"),
        (["init", "/proc/nowhere"], 1, "cannot be written"),
        (["init", "x", "--port", "0"], 2, "a port is between 1 and 65535"),
        (["init", "x", "y"], 2, "unexpected argument 'y'"),
    ],
)
def test_init_with_wrong_words(tmp_path, words, code, said):
    """A folder that cannot be one is told in a line, and nothing is written."""
    (tmp_path / "file").write_text("")
    found, out, err = started(tmp_path, *words)
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1


def test_doctor_without_an_instance(tmp_path):
    """Without an instance doctor looks at the machine and at the files that are named, and exits with 1 for an error."""
    code, said = run_to_end(tmp_path, "doctor", "-o", "json")
    checks = {row["check"]: row["status"] for row in json.loads(said)}
    assert code == 0
    assert checks["instance"] == "skipped"
    assert checks.keys() >= {"versions", "disk", "data directory", "ports", "clock of the machine"}
    (tmp_path / "a.yaml").write_text(
        "apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: a}\nspec: {tokens: [{}]}\n"
    )
    code, said = run_to_end(tmp_path, "doctor", "a.yaml")
    assert code == 1
    assert "error    files: a.yaml:4: spec.tokens[0]: expected exactly one of sha256, secretKeyRef, envRef" in said
    code, said = run_to_end(tmp_path, "doctor", "nowhere")
    assert (code, said) == (2, "dapr-shared: nowhere does not exist: name a file or directory that is there\n")


def test_doctor_sees_who_else_may_read(tmp_path):
    """A data directory that others can read is a warning with the command that closes it."""
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    os.chmod(data, 0o755)  # noqa: PTH101 - whatever the umask
    rows = json.loads(run_to_end(tmp_path, "doctor", "--data-dir", str(data), "-o", "json")[1])
    [found] = [row for row in rows if row["check"] == "file permissions"]
    assert (found["status"], found["remedy"]) == ("warning", f"chmod 700 {data}")


def test_a_dead_instance_is_no_instance(tmp_path):
    """A socket that a killed instance left is told as none running, not as an error of the command."""
    import socket
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ds-") as data:
        left = socket.socket(socket.AF_UNIX)
        left.bind(f"{data}/operators.sock")
        left.close()
        code, said = run_to_end(tmp_path, "doctor", "--data-dir", data)
        assert "skipped  instance: none runs with" in said
        code, said = run_to_end(tmp_path, "apps", "--data-dir", data)
        assert code == 1
        assert "no instance answers at" in said
