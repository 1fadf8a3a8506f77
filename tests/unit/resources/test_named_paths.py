"""What a named path must hold, so that a wrong one is told and not taken for nothing to do."""

from __future__ import annotations

import pytest

from dapr_shared.resources.named_paths import named_file_problem, named_path_problem

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n"
STORE = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: x}\n"
RUN_FILE = "version: 1\napps: [{appDirPath: .}]\n"


@pytest.mark.parametrize(
    "text",
    [
        STORE,
        POD + "---\n" + STORE,
        "kind: Component\n",
        "apiVersion: dapr.io/v1alpha1\nkind: Componnt\n",
        "- a list\n",
        "a text\n",
        "a: [\n",
    ],
)
def test_files_that_loading_judges(tmp_path, text):
    """Something of ours, mixed with foreign documents or wrong inside, is loading's to judge, with the line."""
    (tmp_path / "a.yaml").write_text(text)
    assert named_file_problem(tmp_path / "a.yaml") == ""
    assert named_path_problem(tmp_path / "a.yaml") == ""
    assert named_path_problem(tmp_path) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# a comment\n---\n", "is empty"),
        (POD, "(found: Pod of v1)"),
        ("apiVersion: apps/v1\nkind: Deployment\n---\n" + POD, "(found: Deployment of apps)"),
        ("apiVersion: core.oam.dev/v1beta1\nkind: Component\n", "(found: Component of core.oam.dev)"),
        ("services: {web: {image: x}}\n", "(found: no kind)"),
        ("\x00\xff", "is not UTF-8 text"),
    ],
)
def test_files_with_nothing_of_ours(tmp_path, text, said):
    """Empty and foreign files are named with what was found; a directory of nothing else is refused too."""
    (tmp_path / "a.yaml").write_bytes(text.encode("latin-1"))
    assert said in named_file_problem(tmp_path / "a.yaml")
    assert said in named_path_problem(tmp_path / "a.yaml")
    assert "holds no resource that is read here" in named_path_problem(tmp_path)
    (tmp_path / "b.yaml").write_text(STORE)
    assert named_path_problem(tmp_path) == ""


def test_a_kind_that_is_wanted(tmp_path):
    """Where one kind is wanted, a file of another one is not what was meant."""
    (tmp_path / "a.yaml").write_text(STORE)
    assert "name a file with a Configuration" in named_file_problem(tmp_path / "a.yaml", ("Configuration",))


def test_run_files(tmp_path):
    """A run file is something to check, and not what `--apps` wants; beside foreign files it makes the directory right."""
    (tmp_path / "dapr.yaml").write_text(RUN_FILE)
    (tmp_path / "pod.yaml").write_text(POD)
    assert named_path_problem(tmp_path / "dapr.yaml") == ""
    assert named_path_problem(tmp_path) == ""
    assert f"start it with -f {tmp_path}/dapr.yaml" in named_file_problem(tmp_path / "dapr.yaml")


def test_directories_without_files(tmp_path):
    """A directory may be empty where its files come later, and not where it is to be checked."""
    assert named_file_problem(tmp_path) == ""
    assert "no file that ends in .yaml or .yml" in named_path_problem(tmp_path)
