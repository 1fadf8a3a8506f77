"""Hooks of mkdocs: pages and files outside docs/ become part of the site, and lists of the navigation are filled in.

README.md, ARCHITECTURE.md and the examples stay where a reader of the repository looks for them. On the site they are
below `project/`, with every file that some page links to; links between them and the pages of docs/ go on to work, and
a link to a file that does not exist fails the build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "project/"
HOME = "README.md"
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/*/README.md")
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the navigation's lists: `folder/*` is the pages of a folder, `./*` those of docs/, that stand nowhere else."""
    config.nav = _filled(config.nav, set(_named(config.nav)))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the project's own pages, and what any page links to outside docs/."""
    pages = [path.relative_to(ROOT).as_posix() for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    wanted = set(pages)
    for source in [*pages, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]:
        wanted |= {target for target in _targets(source) if not target.startswith("docs/")}
    for target in sorted(wanted):
        if (ROOT / target).is_file():
            files.append(File.generated(config, _on_site(target), abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs names them
    """Lead the links to where the site has their targets."""
    here = page.file.src_uri
    source = (
        HOME if here == _on_site(HOME) else here.removeprefix(PREFIX) if here.startswith(PREFIX) else f"docs/{here}"
    )

    def lead(match: re.Match[str]) -> str:
        target = _target(source, match[1])
        return posixpath.relpath(_on_site(target), posixpath.dirname(here) or ".")

    parts: list[str] = []
    end = 0
    for code in _CODE.finditer(markdown):
        parts += [_LINK.sub(lead, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(lead, markdown[end:])])


def _targets(source: str) -> Iterator[str]:
    text = _CODE.sub("", (ROOT / source).read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        yield _target(source, link)


def _target(source: str, link: str) -> str:
    """The file of the repository that a link in one leads to; a folder stands for its first page."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    pages = (f"{target}/{name}" for name in ("README.md", "index.md"))
    return next((page for page in pages if (ROOT / page).is_file()), target)


def _on_site(target: str) -> str:
    if target == HOME:
        return "index.md"
    return target.removeprefix("docs/") if target.startswith("docs/") else PREFIX + target


def _named(nav: Any) -> Iterator[str]:
    if isinstance(nav, dict | list):
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _named(entry)
    elif isinstance(nav, str):
        yield nav


def _filled(nav: Any, named: set[str]) -> Any:
    if isinstance(nav, dict):
        return {title: _filled(entry, named) for title, entry in nav.items()}
    if isinstance(nav, list):
        parts = [_filled(entry, named) for entry in nav]
        lists = [isinstance(entry, str) and entry.endswith("/*") for entry in nav]
        return [one for part, spread in zip(parts, lists, strict=True) for one in (part if spread else [part])]
    if isinstance(nav, str) and nav.endswith("/*"):
        folder, inside = nav.removesuffix("*").removeprefix("./"), nav.startswith(PREFIX)
        base = ROOT / (folder.removeprefix(PREFIX) if inside else f"docs/{folder}")
        found = base.glob("*/README.md") if inside else base.glob("*.md")
        first = ("README.md", "index.md")
        names = sorted(
            (path.relative_to(base).as_posix() for path in found), key=lambda name: (name not in first, name)
        )
        return [folder + name for name in names if folder + name not in named]
    return nav
