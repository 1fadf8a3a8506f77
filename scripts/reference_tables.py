"""The reference pages that are one table each: flags, errors, metrics."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dapr_shared.core import errors
from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.runtime.settings import FlagKind, flags

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dapr_shared.runtime.settings import FlagSpec

_KINDS = {
    FlagKind.TEXT: "text",
    FlagKind.INTEGER: "whole number",
    FlagKind.BOOLEAN: "true or false",
    FlagKind.LIST: "list",
    FlagKind.DURATION: "duration",
    FlagKind.QUANTITY: "size",
    FlagKind.PORT: "port",
}


def cell(text: object) -> str:
    """A text as it can stand in a cell of a table; in code, between backticks, nothing is a tag."""
    line = str(text).replace("|", "\\|").replace("\n", " ")
    return re.sub(r"(`[^`]*`)|<", lambda found: found[1] or "&lt;", line)


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell(one) for one in line) + " |" for line in lines) + "\n"


def flags_page() -> str:
    """All flags of `dapr-shared run` and `daprd`."""

    def row(spec: FlagSpec) -> Sequence[object]:
        choices = f" One of {', '.join(spec.flag.choices)}." if spec.flag.choices else ""
        return f"`--{spec.name}`", _KINDS[spec.flag.kind], _default(spec.default), f"{spec.flag.doc}{choices}"

    titles = ("flag", "value", "default", "meaning")
    own = [row(spec) for spec in flags() if spec.flag.own]
    known = [row(spec) for spec in flags() if not spec.flag.own and spec.flag.effect]
    idle = [row(spec) for spec in flags() if not spec.flag.own and not spec.flag.effect]
    return (
        "# Flags\n\n"
        "The flags of `dapr-shared run` and of `daprd`, its twin with daprd's defaults. `--flag value` and "
        "`--flag=value` are the same, one dash does too; a list is separated by commas, repeated, or both; a duration "
        "is `1m30s`, a size `4Mi`.\n\n"
        f"## Of dapr-shared alone\n\n{table(titles, own)}\n"
        f"## Of daprd\n\n{table(titles, known)}\n"
        "## Accepted, without effect in this version\n\n"
        f"Each says so once in the log, where it is given another value than its default.\n\n{table(titles, idle)}"
    )


def _default(value: Any) -> str:
    if value in ((), "", None):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def errors_page() -> str:
    """All rows of the error table."""
    found = errors.TABLE.rows
    rows = sorted({(r.code, r.http, r.grpc.name, r.message, r.remedy, r.reason) for r in found.values()})
    body = "".join(
        f"## {code}\n\n"
        + table(
            ("HTTP", "gRPC", "message", "what to do"),
            [
                (http, grpc, f"`{message}`" + (f" (reason `{reason}`)" if reason else ""), remedy)
                for one, http, grpc, message, remedy, reason in rows
                if one == code
            ],
        )
        + "\n"
        for code in sorted({row[0] for row in rows})
    )
    return (
        "# Errors\n\n"
        "Every error that an API answers with. HTTP answers carry `errorCode` and `message`; those with a reason also "
        "`details`, as Dapr's. gRPC answers carry the code, the message and the same details. A name in braces is "
        "filled in.\n\n" + body.rstrip("\n") + "\n"
    )


def metrics_page() -> str:
    """All families of the metrics registry."""
    rows = [
        (f"`{family.name}`", family.kind, ", ".join(f"`{label}`" for label in family.labels), family.documentation)
        for family in DaprMetrics(version="").registry.families()
    ]
    dapr = [row for row in rows if row[0].startswith("`dapr_") and not row[0].startswith("`dapr_shared_")]
    rest = [row for row in rows if row not in dapr]
    titles = ("metric", "kind", "labels", "meaning")
    return (
        "# Metrics\n\n"
        "Served for Prometheus on `--metrics-port`, at any path. Latencies are in milliseconds, sizes in bytes, as "
        "Dapr's. A label without a value is left out. The number of label sets of a family is bounded; what comes "
        "after that counts under `_other`.\n\n"
        f"## Under Dapr's names\n\n{table(titles, dapr)}\n## Of dapr-shared\n\n{table(titles, rest)}"
    )
