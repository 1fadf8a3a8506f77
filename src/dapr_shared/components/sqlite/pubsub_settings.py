"""The settings of `pubsub.sqlite`.

Beside both roads: decoded once, when the component is opened.
"""

from __future__ import annotations

from typing import Annotated, Literal

from dapr_shared.components.sqlite.own_file import OwnFileSettings
from dapr_shared.contracts.settings import Kind, Setting


class SqlitePubSubSettings(OwnFileSettings, frozen=True, kw_only=True):
    """The settings of `pubsub.sqlite`."""

    retention: Annotated[
        float,
        Setting(
            "How long messages are kept after they were published, done or not.",
            Kind.DURATION,
            unit="seconds",
            minimum=1,
            example="168h",
        ),
    ] = 168 * 3600.0
    max_size: Annotated[
        int,
        Setting(
            "Payload that the file holds at most; past it, publishing is refused.",
            Kind.BYTES,
            unit="bytes",
            minimum=1,
            example="1Gi",
        ),
    ] = 1024**3
    visibility_timeout: Annotated[
        float,
        Setting(
            "After how long without a sign of life the messages of a process that hangs are given to others. Signs of "
            "life are given while an app works on a message, however long that takes.",
            Kind.DURATION,
            unit="seconds",
            minimum=1,
            example="60s",
        ),
    ] = 60.0
    redeliver_interval: Annotated[
        float,
        Setting(
            "How long a failed message waits; doubled with each failure.",
            Kind.DURATION,
            unit="seconds",
            minimum=0.001,
            example="1s",
        ),
    ] = 1.0
    max_redeliver_interval: Annotated[
        float,
        Setting(
            "How long a failed message waits at most.", Kind.DURATION, unit="seconds", minimum=0.001, example="60s"
        ),
    ] = 60.0
    busy_timeout: Annotated[
        float,
        Setting(
            "How long to wait for another process's lock; 0: not at all.", Kind.DURATION, unit="seconds", example="5s"
        ),
    ] = 5.0
    synchronous: Annotated[
        Literal["full", "normal"],
        Setting(
            "full: a published message survives a killed process and lost power. normal: lost power may take the last "
            "ones, and publishing costs less; a killed process takes none in either.",
            choices=("full", "normal"),
        ),
    ] = "full"
