"""The life of the apps of a run: started, watched, ended, and never left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.calls import ask
from tests.support.instance import free_ports
from tests.support.required import need
from tests.support.runs import SERVE, pids_of, running, runs, wait_until_gone, write_run_file

FLAGS = ["-f", "dapr.yaml", "--dapr-graceful-shutdown-seconds", "2"]
DEAF = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


@pytest.fixture(autouse=True)
def _proc() -> None:
    need(Path("/proc/self/stat").exists(), "/proc")


def serving(folder: Path, *more: dict) -> None:
    """A run file with two small apps that serve, and more."""
    one, two = free_ports(2)
    apps = [
        {"appDirPath": "orders", "appPort": one, "command": SERVE},
        {"appDirPath": "stock", "appPort": two, "command": ["sh", "-c", f"{SERVE[0]} {SERVE[1]}; true"]},
    ]
    write_run_file(folder, [*apps, *more])


def all_pids(folder: Path) -> list[int]:
    """The processes of both apps: with a shell around, and with children."""
    return [*pids_of(folder / "orders"), *pids_of(folder / "stock")]


def keeper_of(pid: int) -> int:
    """The keeper of a run."""
    (keeper,) = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if (fields := _stat(path)) and fields[1] == str(pid)
    ]
    return keeper


def _stat(path: Path) -> list[str]:
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_apps_and_instance(tmp_path, number):
    """SIGTERM and SIGINT end the apps first, with all that they have started, then the instance; the exit code is 0."""
    serving(tmp_path)
    with running(tmp_path, FLAGS) as run:
        pids = all_pids(tmp_path)
        run.wait_for("app stock listens")
        assert run.end(number) == 0
        assert not [pid for pid in pids if runs(pid)]
        assert len(re.findall(r"app \w+ has stopped", run.text())) == 2


def test_ctrl_c_in_a_terminal(tmp_path):
    """In a terminal names have colours, and Ctrl-C ends everything with 0: the apps hear of it from the run alone."""
    serving(tmp_path)
    with running(tmp_path, FLAGS, terminal=True) as run:
        pids = all_pids(tmp_path)
        run.wait_for(re.escape("\x1b[36m== APP - orders ==\x1b[0m app orders listens"))
        run.wait_for(re.escape("\x1b[33m== APP - stock ==\x1b[0m app stock listens"))
        os.write(run.terminal, b"\x03")
        assert run.wait() == 0
        text = run.text()
        assert not [pid for pid in pids if runs(pid)]
    assert "KeyboardInterrupt" not in text
    assert "Traceback" not in text
    assert "app orders has stopped (SIGTERM)" in text


def test_a_closed_terminal_ends_the_run(tmp_path):
    """When its terminal window is closed, the run ends with its apps; without a terminal SIGHUP reads resources again."""
    serving(tmp_path)
    with running(tmp_path, FLAGS, terminal=True) as run:
        pids = [*all_pids(tmp_path), run.process.pid]
        run.wait_for("app stock listens")
        os.close(run.terminal)
        run.terminal = os.open(os.devnull, os.O_RDONLY)
        run.wait()
        wait_until_gone(pids)


def test_hang_up_without_a_terminal(tmp_path):
    """Without a terminal SIGHUP reads the resources again, as it does for every instance; the apps go on."""
    serving(tmp_path)
    with running(tmp_path, FLAGS) as run:
        pids = all_pids(tmp_path)
        run.wait_for("app stock listens")
        run.process.send_signal(signal.SIGHUP)
        (log,) = (tmp_path / ".dapr" / "logs").iterdir()
        run.wait_until(lambda: "reload" in log.read_text())
        assert all(runs(pid) for pid in pids)
        assert run.end() == 0


def test_no_colours_where_nobody_wants_them(tmp_path):
    """NO_COLOR is kept to in a terminal too."""
    write_run_file(tmp_path, [{"appDirPath": "a", "command": ["printf", "\\033[31mred\\n"]}])
    with running(tmp_path, FLAGS, terminal=True, env={"NO_COLOR": "1"}) as run:
        assert run.wait() == 0
        assert "== APP - a == red\r\n" in run.text()
        assert "\x1b" not in run.text()


def test_an_app_that_ends_is_told_and_nothing_starts_again(tmp_path):
    """An app that is killed is reported with the signal, one that ends with its code; the others go on; the code is 1."""
    serving(tmp_path, {"appDirPath": "short", "command": ["sh", "-c", "exit 7"]})
    with running(tmp_path, FLAGS) as run:
        run.wait_for("app short has ended with exit code 7")
        pid = pids_of(tmp_path / "orders")[0]
        run.wait_for("app stock listens")
        os.kill(pid, signal.SIGKILL)
        run.wait_for("app orders was ended by SIGKILL")
        assert run.ask("stock", "GET", "/v1.0/invoke/stock/method/env").status == 200
        assert pids_of(tmp_path / "orders")[0] == pid
        assert run.end() == 1


def test_an_app_that_does_not_stop_is_killed(tmp_path):
    """What ignores SIGTERM is killed after the grace, and that is told and counts as a failure."""
    write_run_file(tmp_path, [{"appDirPath": "a", "command": [sys.executable, "-c", DEAF]}])
    with running(tmp_path, [*FLAGS[:-1], "1"]) as run:
        run.wait_for("== APP - a == deaf")
        assert run.end() == 1
        assert "app a has not stopped in time: it is killed" in run.text()


def test_a_second_signal_ends_at_once(tmp_path):
    """The second Ctrl-C waits for nobody, and still leaves nobody behind."""
    child = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {DEAF!r}]); print('pid', p.pid, flush=True); {DEAF}"
    write_run_file(tmp_path, [{"appDirPath": "a", "command": [sys.executable, "-c", child]}])
    with running(tmp_path, [*FLAGS[:-1], "60"]) as run:
        pid = int(run.wait_for(r"pid (\d+)")[1])
        run.wait_for("deaf")
        run.process.send_signal(signal.SIGINT)
        (log,) = (tmp_path / ".dapr" / "logs").iterdir()
        run.wait_until(lambda: "stopping" in log.read_text())
        run.process.send_signal(signal.SIGINT)
        run.wait()
        wait_until_gone([pid])


def test_a_killed_instance_leaves_nobody_behind(tmp_path):
    """When the instance is killed with -9, its apps and all that they have started end too."""
    serving(tmp_path)
    with running(tmp_path, FLAGS) as run:
        pids = [*all_pids(tmp_path), keeper_of(run.process.pid)]
        run.process.kill()
        assert run.wait() == -signal.SIGKILL
        wait_until_gone(pids)


def test_a_killed_keeper_ends_the_run(tmp_path):
    """When the process that keeps the apps is killed, the run ends as failed and nobody is left."""
    serving(tmp_path)
    with running(tmp_path, FLAGS) as run:
        pids = all_pids(tmp_path)
        run.wait_for("app stock listens")
        os.kill(keeper_of(run.process.pid), signal.SIGKILL)
        assert run.wait() == 1
        wait_until_gone(pids)


def test_both_killed_at_once(tmp_path):
    """When a whole process group is killed with -9, the apps go with it: on Linux they ask the system for that."""
    need(sys.platform.startswith("linux"), "Linux")
    write_run_file(tmp_path, [{"appDirPath": "a", "command": [sys.executable, "-c", "import os, time; print('pid', os.getpid(), flush=True); time.sleep(600)"]}])  # fmt: skip
    with running(tmp_path, FLAGS) as run:
        pid = int(run.wait_for(r"pid (\d+)")[1])
        os.killpg(run.process.pid, signal.SIGKILL)
        run.wait()
        wait_until_gone([pid])


def test_a_console_that_is_gone_ends_the_run(tmp_path):
    """When nobody reads what the run prints any more, it ends, as a command in a pipe does."""
    write_run_file(tmp_path, [{"appDirPath": "a", "command": ["sh", "-c", "echo pid $$; while echo more; do sleep 0.05; done"]}])  # fmt: skip
    command = [sys.executable, "-P", "-m", "dapr_shared", "run", *FLAGS, "--data-dir", str(tmp_path / "state")]
    reading, writing = os.pipe()
    with subprocess.Popen(command, cwd=tmp_path, stdout=writing, stderr=writing, env={**os.environ, "HOME": str(tmp_path)}) as process:  # fmt: skip
        os.close(writing)
        read = b""
        while not (found := re.search(rb"pid (\d+)\n", read)):
            read += os.read(reading, 65536)
        os.close(reading)
        assert process.wait(20) == 0
    wait_until_gone([int(found[1])])


def test_a_console_that_stands_still_holds_up_nobody(tmp_path):
    """While nobody reads the terminal an app that prints much waits; the instance serves on, and the run still ends."""
    serving(
        tmp_path, {"appDirPath": "chatty", "command": ["sh", "-c", "yes 0123456789"], "appLogDestination": "console"}
    )
    with running(tmp_path, FLAGS, terminal=True) as run:
        port = run.port("orders")
        pids = all_pids(tmp_path)
        run.wait_for("app stock listens")
        for _ in range(20):  # nothing reads the terminal in here: what it holds is a few thousand bytes
            assert ask(f"127.0.0.1:{port}", "GET", "/v1.0/invoke/orders/method/env").status == 200
        run.process.send_signal(signal.SIGTERM)
        wait_until_gone(pids)
        wait_until_gone([run.process.pid])


@pytest.mark.parametrize(
    ("command", "content", "problem"),
    [
        (["./app.sh"], None, r"the command \./app\.sh is not found in .*/a"),
        (["no-such-program-7"], None, "the command no-such-program-7 is not found in the directories of PATH"),
        (["./app.sh"], (0o644, "#!/bin/sh\n"), r"\./app\.sh is no program that may be executed \(chmod \+x\?\)"),
        (["./app.sh"], (0o755, "\x7fELF nonsense"), r"\./app\.sh is no program, and no script that begins with #!"),
        (
            ["./app.sh"],
            (0o755, "#!/no/such/interpreter\n"),
            r"\./app\.sh names in its first line an interpreter that is not there",
        ),
    ],
)
def test_an_app_that_cannot_start_is_named(tmp_path, command, content, problem):
    """What keeps an app from starting is told in one line with its name; the others go on, and the exit code is 1."""
    if content is not None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "app.sh").write_text(content[1])
        (tmp_path / "a" / "app.sh").chmod(content[0])
    other = {"appDirPath": "b", "command": ["sh", "-c", "sleep 0.5; echo fine"]}
    write_run_file(tmp_path, [{"appDirPath": "a", "command": command}, other])
    with running(tmp_path, FLAGS) as run:
        assert run.wait() == 1
        text = run.text()
    assert re.search(rf"^== dapr-shared == app a cannot start: {problem}$", text, re.MULTILINE), text
    assert "== APP - b == fine" in text


def test_an_instance_that_cannot_start_starts_no_app(tmp_path):
    """Wrong resources are told with file and line, the exit code is 1, and no app has run."""
    (tmp_path / "res").mkdir()
    (tmp_path / "res" / "c.yaml").write_text("apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: x}\nspec: {type: 7, metadata: x}\n")  # fmt: skip
    write_run_file(tmp_path, [{"appDirPath": "a", "command": ["touch", "ran"], "resourcesPaths": ["res"]}])
    with running(tmp_path, FLAGS) as run:
        assert run.wait() == 1
        assert "res/c.yaml, document 1, line 4: spec.metadata: expected a list" in run.text()
        assert "Traceback" not in run.text()
    assert not (tmp_path / "a" / "ran").exists()


@pytest.mark.parametrize("terminal", [False, True])
def test_one_app(tmp_path, terminal):
    """`run --app-id … -- COMMAND` is the same for one app: `dapr run`'s short flags, its environment, its exit."""
    (port,) = free_ports(1)
    with running(tmp_path, ["-a", "cart", "-p", str(port), "-d", ".", "-P", "http", "--", *SERVE], terminal=terminal) as run:  # fmt: skip
        run.wait_for("app cart listens")
        env = run.ask("cart", "GET", "/v1.0/invoke/cart/method/env").json()
        assert (env["APP_ID"], env["APP_PORT"]) == ("cart", str(port))
        assert env["DAPR_HTTP_ENDPOINT"] == f"http://127.0.0.1:{run.port('cart')}"
        pids = pids_of(tmp_path)
        assert run.end() == 0
        assert not [pid for pid in pids if runs(pid)]


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 9", 1)])
def test_one_app_that_ends(tmp_path, script, code):
    """When the only app ends the instance does too, and the exit code tells whether it failed."""
    with running(tmp_path, ["--app-id", "cart", "sh", "-c", f"echo $DAPR_HTTP_PORT; {script}"]) as run:
        assert run.wait() == code
        assert re.search(r"^== APP - cart == \d+$", run.text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["dapr.yaml"], 2, "unexpected argument 'dapr.yaml': a run file is given with -f dapr.yaml"),
        (["python3", "app.py"], 2, "the command 'python3' needs the id of its app: --app-id ID -- python3 …"),
        (["-f", "nowhere.yaml"], 2, "nowhere.yaml: does not exist: give the path of a run file, or its directory"),
        (["-f", "."], 2, ".: is a directory without dapr.yaml: give the run file's own path"),
        (["-f", "empty.yaml"], 2, "empty.yaml: is empty: a run file has version and apps"),
        (["-f", "app.py"], 2, "app.py, document 1, line 1: is not a run file: expected a mapping with version and apps"),
        (["-f", "binary"], 2, "binary, line 1: is not UTF-8 text: invalid start byte"),
        (["-k", "-f", "x"], 2, "-k (a run file on Kubernetes) is not supported: run without -k, or deploy the apps with App resources"),
        (["-f", "x", "--app-id", "a"], 2, "--app-id does not go with -f: give it to each app in the run file"),
        (["-f", "x", "--", "ls"], 2, "-f and a command exclude each other: 'ls' belongs into the run file"),
        (["--app-id", "a.b", "--", "ls"], 2, "--app-id: 'a.b' is not an app id"),
        (["--app-id", "a", "-p", "http", "--", "ls"], 2, "invalid argument 'http' for --app-port: expected a whole number"),
    ],
)  # fmt: skip
def test_wrong_words(tmp_path, words, code, line):
    """What a newcomer gets wrong is one clear line that says what to do, and the right exit code."""
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "app.py").write_text("print('hello')\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with running(tmp_path, words) as run:
        assert run.wait() == code
        told = run.text().splitlines()
    assert told[0].startswith(f"dapr-shared run: {line}"), told
    assert told[1:] == []
