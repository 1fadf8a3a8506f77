"""Loading resources from text in tests."""

import textwrap
from pathlib import Path
from typing import Any

from dapr_shared.resources.loader import ResourceErrors, Resources, load


def load_text(folder: Path, text: str, *, file: str = "res.yaml", **options: Any) -> Resources:
    """Write the text to a file of the folder and load it."""
    path = folder / file
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return load([path], **options)


def errors_of(folder: Path, text: str, *, file: str = "res.yaml", **options: Any) -> list[str]:
    """The messages of the errors in the text, without the folder."""
    try:
        loaded = load_text(folder, text, file=file, **options)
    except ResourceErrors as errors:
        return [str(error).removeprefix(f"{folder}/") for error in errors.errors]
    raise AssertionError(f"loaded without an error: {loaded}")


APP_HEAD = "apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: orders}\n"
COMPONENT_HEAD = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: store}\n"
