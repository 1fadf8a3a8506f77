"""Fields of a run file that are more than a text or a number: units, defaults and forms that Dapr gives them.

Before both roads: a step of loading (`resources/run_file.py`). Facts: reference run-file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.core.durations import parse_quantity
from dapr_shared.resources.app_kind import LOG_LEVELS
from dapr_shared.resources.model import ChannelProtocol, HealthCheck

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.resources.fields import Fields

MAX_PORT = 65535


def command(app: Fields) -> tuple[str, ...]:
    """`command`: a list of words, each as it is written."""
    if app.has("command") and app.is_text("command"):
        app.wrong("command", 'expected a list of words such as ["python3", "app.py"], found a text')
        return ()
    command = app.words("command")
    if command and not command[0]:
        app.wrong("command", "its first word is empty")
    if any("\0" in word for word in command):
        app.wrong("command", "holds a NUL character")
    return command


def environment(fields: Fields) -> dict[str, str]:
    """`env`: names of variables and their values, as they are written."""
    found = fields.words_by_name("env")
    for name, value in found.items():
        if not name or "=" in name or "\0" in name + value:
            fields.wrong("env", "a name of a variable is not empty and has no '='; NUL characters are not possible")
    return found


def port(fields: Fields, name: str) -> int:
    """0, and less, is Dapr's way to say none."""
    return max(fields.integer(name, 0, minimum=-1, maximum=MAX_PORT), 0)


def log_level(fields: Fields) -> str:
    """`logLevel`; empty: not given."""
    return fields.choice("logLevel", LOG_LEVELS, "") if fields.has("logLevel") else ""


def protocol(name: Fields, ssl: Fields) -> ChannelProtocol:
    """`appProtocol`, with TLS where `appSSL` says so."""
    chosen = name.choice("appProtocol", list(ChannelProtocol), ChannelProtocol.HTTP)
    if ssl.boolean("appSSL") and chosen in ("http", "grpc"):
        chosen += "s"
    return ChannelProtocol(chosen)


def health_check(of: Callable[[str], Fields]) -> HealthCheck:
    """The health check; `of` gives the mapping that a field is read from."""
    defaults = HealthCheck()

    def whole(name: str) -> int:
        return of(name).integer(name, 0, minimum=-(2**31))

    interval, timeout, threshold = (
        whole("appHealthProbeInterval"), whole("appHealthProbeTimeout"), whole("appHealthThreshold"),
    )  # fmt: skip
    result = HealthCheck(
        enabled=of("enableAppHealthCheck").boolean("enableAppHealthCheck"),
        path=of("appHealthCheckPath").text("appHealthCheckPath") or defaults.path,
        interval=float(interval) if interval > 0 else defaults.interval,
        timeout=timeout / 1000 if timeout > 0 else defaults.timeout,
        threshold=threshold if threshold > 0 else defaults.threshold,
    )
    if not result.path.startswith("/"):
        of("appHealthCheckPath").wrong("appHealthCheckPath", "does not begin with '/'")
    if result.timeout > result.interval:
        of("appHealthProbeTimeout").wrong("appHealthProbeTimeout", "is longer than appHealthProbeInterval")
    return result


def size(new: Fields, name: str, old: Fields, old_name: str, unit: int) -> int | None:
    """Bytes by the newer name, a quantity such as 4Mi, or by the older one, a number of units; `None`: not given."""
    text = new.text(name)
    number = old.integer(old_name, -1, minimum=-1)
    if text:
        try:
            return max(parse_quantity(text), 0)
        except ValueError as error:
            new.wrong(name, f"expected a size such as 4Mi: {error}")
            return None
    return number * unit if number > 0 else None
