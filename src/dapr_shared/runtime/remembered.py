"""What apps last said they are subscribed to, and their configuration subscriptions, kept over restarts (design §5.16).

Assembly of the delivery road. One small file an app and kind, replaced atomically and flushed to disk, so that it is
either the old answer or the new one after a crash.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from dapr_shared.blocks.configuration.block import KeptSubscription
from dapr_shared.channel.callbacks import AskedSubscription

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.events import Events

T = TypeVar("T")


class _Kept(msgspec.Struct, Generic[T]):
    app_id: str
    namespace: str
    subscriptions: list[T]


class _Remembered(Generic[T]):
    """Keeps a list for each app. A folder that cannot be written is told, and costs only the memory."""

    def __init__(self, folder: Path, kind: type[T], events: Events) -> None:
        self._folder = folder
        self._events = events
        self._decoder = msgspec.json.Decoder(_Kept[kind])

    def load(self, app: AppRef) -> Sequence[T]:
        """What was kept last; empty when there is nothing or the file is no such file."""
        try:
            kept = self._decoder.decode(self._file(app).read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError) as error:
            self._events.memory_failed(str(self._file(app)), str(error))
            return ()
        return kept.subscriptions if (kept.app_id, kept.namespace) == (app.app_id, app.namespace) else ()

    def save(self, app: AppRef, subscriptions: Sequence[T]) -> None:
        """Keep these instead of what was kept."""
        file = self._file(app)
        data = msgspec.json.encode(_Kept(app.app_id, app.namespace, list(subscriptions)))
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


class RememberedSubscriptions(_Remembered[AskedSubscription]):
    """Answers for `blocks.pubsub.app.Memory`."""

    def __init__(self, folder: Path, events: Events) -> None:
        super().__init__(folder, AskedSubscription, events)


class RememberedConfiguration(_Remembered[KeptSubscription]):
    """Answers for `blocks.configuration.block.Memory`."""

    def __init__(self, folder: Path, events: Events) -> None:
        super().__init__(folder, KeptSubscription, events)
