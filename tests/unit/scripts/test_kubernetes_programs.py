"""The programs of the Kubernetes tests are made when they are missing in the wanted version, and only then."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kubernetes.kit import programs


@dataclass
class _Source:
    """A program whose making is counted."""

    names: tuple[str, ...] = ("tea",)
    version: str = "1"
    made: list[str] = field(default_factory=list)
    fails: bool = False

    def fingerprint(self) -> str:
        return self.version

    def make(self, into: Path) -> None:
        self.made.append(self.version)
        (into / "tea").write_text(self.version)
        if self.fails:
            raise programs.KitError("no tea today")


@pytest.fixture
def source(monkeypatch):
    source = _Source()
    monkeypatch.setattr(programs, "SOURCES", (source,))
    return source


def test_made_once_a_version(source, tmp_path):
    """A program is made when it is absent or of another version, and left alone otherwise."""
    programs.provide(tmp_path)
    programs.provide(tmp_path)
    assert source.made == ["1"]
    source.version = "2"
    assert programs.missing(tmp_path) == ["tea"]
    programs.provide(tmp_path)
    assert (tmp_path / "tea").read_text() == "2"
    assert (tmp_path / "tea").stat().st_mode & 0o111
    assert not programs.missing(tmp_path)


def test_half_a_program_is_none(source, tmp_path, monkeypatch, capsys):
    """What could not be made leaves nothing behind, and the command says why with 1."""
    monkeypatch.setenv("K8S_KIT", str(tmp_path))
    source.fails = True
    assert programs.main([]) == 1
    assert "no tea today" in capsys.readouterr().err
    assert programs.main(["--check"]) == 1
    assert "missing tea" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "bin").iterdir()} == {".lock"}


def test_what_is_pinned():
    """Packages are pinned by hash, and kubeall says the version of Kubernetes that its go.mod names."""
    for source in programs.SOURCES:
        assert len(source.fingerprint()) == 64
        if isinstance(source, programs.Packaged):
            assert "--hash=sha256:" in source._requirement()
    modules = (Path(programs.__file__).parent / "kubeall" / "go.mod").read_text()
    assert f"k8s.io/kubernetes {programs.KUBERNETES}\n" in modules
