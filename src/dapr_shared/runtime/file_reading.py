"""Resource files of an instance that leaves out what is wrong: each document by itself.

Before both roads. What a file said before stays while something in it is wrong and does not say otherwise: whether it was
taken out or is the wrong part cannot be told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dapr_shared.resources.loader import Resources, examine_files
from dapr_shared.runtime.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dapr_shared.resources.model import Resource

_KINDS = ("apps", "components", "configurations", "http_endpoints", "subscriptions", "resiliencies", "others")


class FileReader:
    """Reads the same paths again and again."""

    def __init__(self, paths: Sequence[Path], *, default_namespace: str) -> None:
        self._paths = paths
        self._default_namespace = default_namespace
        self._before = Resources()

    def read(self) -> tuple[Resources, list[Refusal]]:
        """What is right, and what is not. Blocks."""
        examined = examine_files(self._paths, default_namespace=self._default_namespace)
        wrong = tuple({error.origin.file for error in examined.errors})
        lists: dict[str, Any] = {
            kind: (*now, *_kept(getattr(self._before, kind), now, wrong))
            for kind in _KINDS
            for now in [getattr(examined.resources, kind)]
        }
        self._before = Resources(**lists, notices=examined.resources.notices)
        refused = [
            Refusal("File", error.origin, f"{error.field}: {error.problem}" if error.field else error.problem)
            for error in examined.errors
        ]
        return self._before, refused


def _kept(before: Sequence[Resource], now: Sequence[Resource], wrong: tuple[str, ...]) -> list[Resource]:
    """What wrong files said before of what they do not say now. A wrong path may be the folder of a file."""
    said = {(one.namespace, one.name) for one in now}
    return [
        one
        for one in before
        if (one.namespace, one.name) not in said and any(_within(one.origin.file, path) for path in wrong)
    ]


def _within(file: str, path: str) -> bool:
    return file == path or file.startswith(f"{path.rstrip('/')}/")
