"""Resource files of an instance that leaves out what is wrong."""

from __future__ import annotations

import pytest
import yaml

from dapr_shared.runtime.file_reading import FileReader


def app(name: str, **spec) -> dict:
    return {"apiVersion": "shared.dapr.io/v1alpha1", "kind": "App", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def folder(tmp_path):
    """Writes a file of a folder that is read; gives the app ids, and the problems."""
    reader = FileReader([tmp_path], default_namespace="shop")

    def write(text: str, *objects: dict, file: str = "apps.yaml"):
        (tmp_path / file).write_text(text + yaml.safe_dump_all(objects))
        resources, refused = reader.read()
        assert {found.namespace for found in resources.apps} <= {"shop"}
        return {found.app_id: found.log_level for found in resources.apps}, [
            str(each.origin.document) for each in refused
        ]

    return write


def test_a_wrong_document_stops_no_other(folder):
    """The others of its file are read; what it said before stays, as does what can no longer be told apart from it."""
    assert folder("", app("a"), app("b")) == ({"a": "", "b": ""}, [])
    wrong = app("b", logLevel="loud")
    assert folder("", app("a", logLevel="debug"), wrong) == ({"a": "debug", "b": ""}, ["2"])
    assert folder("", app("c"), wrong) == ({"c": "", "a": "debug", "b": ""}, ["2"])
    assert folder("", app("c")) == ({"c": ""}, [])


def test_a_file_that_is_no_yaml(folder):
    """All that it said before stays, and other files are read."""
    folder("", app("a"))
    found, problems = folder("kind: [", file="apps.yaml")
    assert (found, len(problems)) == ({"a": ""}, 1)
    found, problems = folder("", app("b"), file="more.yaml")
    assert (sorted(found), len(problems)) == (["a", "b"], 1)


def test_a_folder_that_is_gone(tmp_path):
    """What its files said stays, and the problem is told."""
    folder = tmp_path / "apps"
    folder.mkdir()
    (folder / "a.yaml").write_text(yaml.safe_dump(app("a")))
    reader = FileReader([folder], default_namespace="shop")
    assert len(reader.read()[0].apps) == 1
    folder.rename(tmp_path / "elsewhere")
    resources, refused = reader.read()
    assert [found.app_id for found in resources.apps] == ["a"]
    assert len(refused) == 1
