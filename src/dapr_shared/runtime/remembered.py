"""What apps last said they are subscribed to, kept over restarts of the instance (design §5.16).

Assembly of the delivery road. One small file an app, replaced atomically and flushed to disk, so that it is either the
old answer or the new one after a crash.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from dapr_shared.channel.callbacks import AskedSubscription  # noqa: TC001 - read by msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.events import Events


class _Kept(msgspec.Struct):
    app_id: str
    namespace: str
    subscriptions: list[AskedSubscription]


class RememberedSubscriptions:
    """Answers for `blocks.pubsub.app.Memory`. A folder that cannot be written is told, and costs only the memory."""

    def __init__(self, folder: Path, events: Events) -> None:
        self._folder = folder
        self._events = events

    def load(self, app: AppRef) -> Sequence[AskedSubscription]:
        """The last answer; empty when there is none or the file is no such file."""
        try:
            kept = msgspec.json.decode(self._file(app).read_bytes(), type=_Kept)
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError) as error:
            self._events.memory_failed(str(self._file(app)), str(error))
            return ()
        return kept.subscriptions if (kept.app_id, kept.namespace) == (app.app_id, app.namespace) else ()

    def save(self, app: AppRef, asked: Sequence[AskedSubscription]) -> None:
        """Keep this answer."""
        file = self._file(app)
        data = msgspec.json.encode(_Kept(app.app_id, app.namespace, list(asked)))
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = file.with_suffix(f".{os.getpid()}.new")
            with new.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(file)
        except OSError as error:
            self._events.memory_failed(str(file), str(error))

    def _file(self, app: AppRef) -> Path:
        # Names of namespaces may be anything: a digest is a safe file name and tells two apps apart.
        return self._folder / f"{app.app_id}-{sha256(str(app).encode()).hexdigest()[:16]}.json"
