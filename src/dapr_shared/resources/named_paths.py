"""Whether a path that somebody named can be what was meant: it is there, can be read, and holds something of ours.

Before both roads, and before loading: a command that was given the wrong path says so in one line and tries nothing.
What is wrong inside a file of the right kind is not looked at here; loading tells that, with its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.resources.documents import MappingNode, ScalarNode, YamlError, documents
from dapr_shared.resources.errors import ResourceError
from dapr_shared.resources.loader import KINDS, read_text, resource_files
from dapr_shared.resources.model import DAPR_GROUP, SHARED_GROUP
from dapr_shared.resources.run_file import FILE_NAME, is_run_file

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_GROUPS = (DAPR_GROUP, SHARED_GROUP)
_LONGEST = 60
"""Characters of a kind that is shown."""


def path_problem(path: Path) -> str:
    """Why there is nothing to read at a path, and what to do; empty: a file or a directory is there."""
    try:
        if path.is_file() or path.is_dir():
            return ""
        there = path.exists()
    except OSError as error:  # a directory on the way that is closed to us, a name that is too long
        return f"{path} cannot be read: {error.strerror}; name another path, or run this as the user who may"
    if there:
        return f"{path} is neither a file nor a directory: write what it gives to a file, and name that"
    return f"{path} does not exist: name a file or directory that is there"


def named_file_problem(path: Path, kinds: Collection[str] = tuple(KINDS)) -> str:
    """Why a file is not what was meant, and what to do; empty: it holds one of these kinds, or is a directory.

    Files with foreign documents beside ours are right: the foreign ones are skipped, as Dapr does.
    """
    problem = path_problem(path)
    if problem or path.is_dir():
        return problem
    return f"{path} is a run file: start it with -f {path}" if is_run_file(path) else _file_problem(path, kinds)


def named_path_problem(path: Path) -> str:
    """Why there is nothing of ours in a file or a directory, and what to do; empty: there is. Run files count."""
    problem = path_problem(path)
    if problem:
        return problem
    if not path.is_dir():
        return "" if is_run_file(path) else _file_problem(path, KINDS)
    try:
        files = list(resource_files(path))
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}; run this as the user who may"
    if not files:
        return f"{path} holds no file that ends in .yaml or .yml: name the directory of your resources"
    if is_run_file(path / FILE_NAME) or not all(_file_problem(file, KINDS) for file in files):
        return ""
    return f"{path} holds no resource that is read here: name a directory with {_expected(KINDS)}"


def _file_problem(path: Path, kinds: Collection[str]) -> str:
    foreign: list[str] = []
    try:
        for document in documents(read_text(path)):
            root = document.root
            if not isinstance(root, MappingNode):
                if not isinstance(root, ScalarNode) or root.value is not None:
                    return ""  # no resource at all: loading tells its line
                continue
            kind, group = _text(root, "kind"), _text(root, "apiVersion").partition("/")[0]
            # A kind of Dapr's that does not exist is a typing error: loading names the right one.
            if ((kind in kinds or kind not in KINDS) and group in _GROUPS) or (kind in kinds and not group):
                return ""
            foreign.append(f"{kind[:_LONGEST]} of {group[:_LONGEST]}" if kind and group else kind or "no kind")
    except ResourceError as error:
        return f"{path} {error.problem}: name a file that can be read"
    except YamlError:
        return ""
    found = f"holds no resource that is read here (found: {foreign[0]})" if foreign else "is empty"
    return f"{path} {found}: name a file with {_expected(kinds)}"


def _expected(kinds: Collection[str]) -> str:
    if len(kinds) == 1:
        return f"a {next(iter(kinds))}"
    return "resources such as Component or App"


def _text(root: MappingNode, name: str) -> str:
    entry = root.entries.get(name)
    value = entry.node.value if entry and isinstance(entry.node, ScalarNode) else None
    return value if isinstance(value, str) else ""
