"""The pages of docs/: their commands run, their resources load, the site builds, the reference is the code's."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
import yaml

from dapr_shared.components.catalog import Catalog
from dapr_shared.contracts.settings import decode_settings, unknown_names
from dapr_shared.resources.loader import load
from tests.support.demo import CHECKOUT
from tests.support.pages import Block, Page, all_pages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGES = [Page(path) for path in all_pages()]
RESOURCES = [
    pytest.param(page.path, block, id=f"{page.path.relative_to(CHECKOUT)}:{block.line}")
    for page in PAGES
    for block in page.blocks
    if block.language == "yaml" and "apiVersion:" in block.text
]
CATALOG = Catalog(installed=None)


@pytest.mark.parametrize(("path", "block"), RESOURCES)
def test_resources_load(tmp_path: Path, path: Path, block: Block) -> None:
    """Every resource that a page shows loads without an error or a notice, and a component's settings are its type's."""
    shown = [document for document in block.text.split("---\n") if not OTHER_KIND.search(document)]
    (tmp_path / "shown.yaml").write_text("---\n".join(shown), encoding="utf-8")
    resources = load([tmp_path], environment={})
    assert not resources.notices
    for component in resources.components:
        if component.type in TYPES_OF_OTHERS:
            continue
        row = CATALOG.find(component.type, component.version)
        settings = CATALOG.load(row).settings_type
        given = {item.name: item.value for item in component.metadata if item.value is not None}
        unknown = {name.lower() for name in unknown_names(settings, {item.name: "" for item in component.metadata})}
        assert unknown <= RUNTIME_NAMES, path
        if len(given) == len(component.metadata):
            decode_settings(settings, given)


OTHER_KIND = re.compile(r"^apiVersion: (?:v1|apps/v1)$", re.MULTILINE)
"""Of Kubernetes itself: read in a cluster alone."""

TYPES_OF_OTHERS = {"state.folder", "state.my-store"}
"""Types of packages and programs that are no part of this one."""

RUNTIME_NAMES = {
    "actorstatestore", "keyprefix", "primaryencryptionkey", "secondaryencryptionkey", "outboxpublishpubsub",
    "outboxpublishtopic", "outboxpubsub", "outboxdiscardwhenmissingstate", "consumerid", "allowedtopics",
    "protectedtopics", "publishingscopes", "subscriptionscopes", "direction", "route",
}  # fmt: skip
"""Metadata of a component that the blocks read."""


READERS: dict[str, Callable[[str], object]] = {
    "ini": lambda text: configparser.ConfigParser(interpolation=None).read_string(text),
    "json": lambda text: json.loads(text.replace("…", "")),
    "python": ast.parse,
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}
"""How a block of each language is read, which must succeed."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.path.relative_to(CHECKOUT)))
def test_other_blocks_can_be_read(page: Page) -> None:
    """JSON, YAML, TOML, INI and Python that a page shows can be parsed; what else has a language is named here."""
    for block in page.blocks:
        read = READERS.get(block.language)
        if read is not None:
            read(block.text)
        else:
            assert block.language in {"", "console", "sh", "bash", "sql", "text"}, block


NOT_RUN = {
    ("README.md", "$ make test"): "runs the tests that this is one of",
    ("docs/container-image.md", "$ make image"): "run by tests/kubernetes/test_image.py, with another name",
    ("docs/container-image.md", "$ docker run"): "wants a container engine; the tests run the image by containerd",
    ("docs/components/sqlite-blocks.md", "$ sqlite3 data/configuration.db"): "wants a program that is not needed else",
    ("examples/03-a-store-of-your-own/README.md", "$ .venv/bin/python -m pip install"): "run by test_03",
}
"""Console blocks that no page's session runs, and why."""


def test_commands_are_run() -> None:
    """Every block of commands is marked to be run by a test, but for the few that are named with a reason."""
    plain = {
        (str(page.path.relative_to(CHECKOUT)), block.text)
        for page in PAGES
        for block in page.blocks
        if block.language in {"console", "sh", "bash"} and block.mark != "run"
    }
    unexplained = {
        one for one in plain if not any(one[0] == page and one[1].startswith(text) for page, text in NOT_RUN)
    }
    assert not unexplained
    assert len(plain) == len(NOT_RUN)


def test_the_reference_is_what_the_code_says() -> None:
    """docs/reference/ is what scripts/generate_docs.py writes now."""
    done = subprocess.run(
        [sys.executable, "scripts/generate_docs.py", "--check"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_site_builds(tmp_path: Path) -> None:
    """The site builds strictly: every page is in the navigation, every link and every anchor leads somewhere."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=CHECKOUT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:href|src)="https?://[^"]*(?:fonts|cdn|unpkg)', home), "the site needs other hosts"


@pytest.mark.slow
def test_installing_into_an_environment_of_ones_own(tmp_path: Path) -> None:
    """The commands of the page on installing work in a copy of the checkout, with what the registry has."""
    page = Page(CHECKOUT / "docs" / "install.md")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in names.split("\0"):
        if name.startswith("src/") or name in {"pyproject.toml", "README.md", "LICENSE"}:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, tmp_path / name)
    assert re.fullmatch(page.printed("own"), page.run("own", tmp_path, patience=400))
