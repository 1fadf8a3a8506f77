"""`dapr-shared validate` as people and pipelines run it."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.support.instance import PATIENCE, StartError, app, command, component, environment, start, write_resources
from tests.support.terminal import in_terminal

GOLDEN = """\
all.yaml:14: error: spec.configuration: there is no Configuration 'limits' in namespace default
all.yaml:28: document 2: error: spec.metadata[0].value: timeout: expected a duration such as 30s, 1m30s or a number of seconds, found 'soon'
all.yaml:29: document 2: warning: spec.metadata[1].name: state.sqlite has no setting 'tabelName': it is ignored; did you mean tableName?
1 file (1 App, 1 Component): 2 errors, 1 warning
"""


@pytest.fixture
def wrong(tmp_path):
    """A folder with one file that has two errors and a warning."""
    shop = app("shop", 8000, configuration="limits")
    store = component("store", "state.sqlite", timeout="soon", tabelName="x", connectionString="x.db")
    write_resources(tmp_path / "all.yaml", [shop, store])
    return tmp_path


def validated(folder, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command("validate", *words), cwd=folder, env=environment(folder), capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_lines_for_people(wrong):
    """Without a terminal: one line a problem, in the form that editors read, a count, and exit code 1."""
    code, out, err = validated(wrong, "all.yaml")
    assert (code, err) == (1, "")
    assert out.splitlines()[-1] == GOLDEN.splitlines()[-1]
    told = [line.partition(": ")[2] for line in out.splitlines()]
    assert told == [line.partition(": ")[2] for line in GOLDEN.splitlines()]


def test_data_for_pipelines(wrong):
    """`--output json` has the same problems with file, document, line and field; the exit code is the same."""
    code, out, err = validated(wrong, ".", "--output", "json")
    problems = json.loads(out)["problems"]
    assert (code, err) == (1, "")
    assert [(p["severity"], p["document"], p["field"]) for p in problems] == [
        ("error", 1, "spec.configuration"), ("error", 2, "spec.metadata[0].value"), ("warning", 2, "spec.metadata[1].name"),
    ]  # fmt: skip
    lines = (wrong / "all.yaml").read_text().splitlines()
    assert "configuration: limits" in lines[problems[0]["line"] - 1]
    assert "soon" in lines[problems[1]["line"] - 1]


def test_files_of_apps_in_the_data_directory(tmp_path):
    """A folder for apps in the data directory of an instance is an error, in `validate` as at the start."""
    files = component("files", "bindings.localstorage", rootPath=str(tmp_path / "state" / "dapr-shared" / "files"))
    write_resources(tmp_path / "all.yaml", [files])
    code, out, _ = validated(tmp_path, "all.yaml")
    assert code == 1
    assert "rootPath" in out
    assert "data directory" in out
    with pytest.raises(StartError) as caught:
        start(tmp_path / "instance", "--data-dir", str(tmp_path / "state" / "dapr-shared"), resources=[app("a"), files])
    assert caught.value.code == 1
    assert "data directory" in caught.value.log


def test_warnings_fail_only_when_they_are_told_to(tmp_path):
    """Warnings alone exit with 0; with --strict, 1. What is right exits with 0."""
    write_resources(tmp_path / "all.yaml", [component("store", "state.sqlite", tabelName="x", connectionString="x.db")])
    assert validated(tmp_path, "all.yaml")[0] == 0
    assert validated(tmp_path, "all.yaml", "--strict")[0] == 1
    write_resources(tmp_path / "all.yaml", [component("store", "state.in-memory")])
    assert validated(tmp_path, "all.yaml", "--strict") == (0, "1 file (1 Component): 0 errors, 0 warnings\n", "")


@pytest.mark.parametrize(
    ("words", "said"), [((), "name the files or directories to check"), (("nowhere",), "nowhere does not exist")]
)
def test_wrong_words(tmp_path, words, said):
    """No path and a path that is not there are wrong words: 2, one line, nothing on standard output."""
    code, out, err = validated(tmp_path, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_terminal_gets_colours(wrong):
    """In a terminal the severity is coloured, and with NO_COLOR it is not."""
    code, text = in_terminal(wrong, "validate", "all.yaml", width=200)
    assert code == 1
    assert "\x1b[1;31merror" in text
    assert "\x1b[" not in in_terminal(wrong, "validate", "all.yaml", width=200, env={"NO_COLOR": "1"})[1]


CLUSTER = """\
{file}:7: error: App shop/tea: spec.tokens[0].envRef: is for files only; use secretKeyRef
{file}:14: document 2: error: Service shop/orders: metadata.annotations[dapr.io/app-port]: 'http' is not a whole number
1 file (1 App): 2 errors, 0 warnings
not read: 1 other object (1 Deployment)
"""
MANIFESTS = """\
apiVersion: shared.dapr.io/v1alpha1
kind: App
metadata:
  name: tea
spec:
  tokens:
    - envRef: TOKEN
---
apiVersion: v1
kind: Service
metadata:
  name: orders
  annotations: {dapr.io/app-id: orders,
    dapr.io/app-port: http}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: plain}
"""


def test_manifests_of_a_cluster(tmp_path):
    """`--mode kubernetes`: a line a problem with file, object, field and what to do, and what is not read, counted."""
    (tmp_path / "m.yaml").write_text(MANIFESTS, encoding="utf-8")
    words = ("--mode", "kubernetes", "-n", "shop")
    assert validated(tmp_path, *words, "m.yaml") == (1, CLUSTER.format(file="m.yaml"), "")
    code, out, _ = validated(tmp_path, *words, ".", "-o", "json")
    found = json.loads(out)
    assert (code, found["ignored"]) == (1, {"Deployment": 1})
    assert [(p["object"], p["field"]) for p in found["problems"]] == [
        ("App shop/tea", "spec.tokens[0].envRef"),
        ("Service shop/orders", "metadata.annotations[dapr.io/app-port]"),
    ]


def test_manifests_from_standard_input(tmp_path):
    """`-` reads what another program renders; the same exit codes."""
    done = subprocess.run(
        command("validate", "--mode=kubernetes", "--namespace=shop", "-"), cwd=tmp_path, env=environment(tmp_path),
        input=MANIFESTS, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, CLUSTER.format(file="-"))


def test_manifests_that_are_right(tmp_path):
    """Manifests without a problem exit with 0; a Secret store need not be named in a cluster."""
    store = component("store", "state.redis", redisHost="redis:6379")
    store["spec"]["metadata"].append({"name": "redisPassword", "secretKeyRef": {"name": "redis", "key": "password"}})
    write_resources(tmp_path / "all.yaml", [store])
    assert validated(tmp_path, "all.yaml")[0] == 1, "an instance of files needs a store"
    done = validated(tmp_path, "--mode=kubernetes", "all.yaml", "--strict")
    assert done == (0, "1 file (1 Component): 0 errors, 0 warnings\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--mode=kubernetes",), "name the files or directories to check"),
        (("--mode=kubernetes", "nowhere"), "nowhere does not exist"),
        (("--mode=kubernetes", "empty.yaml"), "empty.yaml is empty"),
        (("--mode=kubernetes", "plain.yaml"), "plain.yaml holds nothing that is read in a cluster (found: Deployment)"),
        (("--mode=kubernetes", "-n", "Shop", "plain.yaml"), "'Shop' is no namespace"),
        (("--mode=cluster", "plain.yaml"), 'invalid value "cluster" for --mode'),
        (("-n", "shop", "plain.yaml"), "add --mode kubernetes"),
        (("-",), "add --mode kubernetes"),
        (("--nonsense", "plain.yaml"), "unknown option: --nonsense"),
    ],
)
def test_wrong_words_of_a_cluster(tmp_path, words, said):
    """Nothing to check, and flags that do not fit, are wrong words: 2, one line, nothing on standard output."""
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    (tmp_path / "plain.yaml").write_text(MANIFESTS.rpartition("---\n")[2], encoding="utf-8")
    code, out, err = validated(tmp_path, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
