"""What `pubsub.sqlite` does in its database: publish, take, settle.

Last step of the request road and first of the delivery road. Each function is one call of `Database`: it runs in the
writer's thread (`pending_of` and `find_groups_with_work` in the reader's), inside a transaction. Times are milliseconds of the wall clock.
"""

# ruff: noqa: S608 - what is put into statements is constants; all else is bound

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dapr_shared.components.sqlite.pubsub_schema import BLOCKED, FREE
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import BrokerFullError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from dapr_shared.components.sqlite.cursor import Cursor

BATCH_BYTES = 16 * 1024 * 1024
"""Payload of one `take` at most, but for its first message."""

LOOKED_AT = 16
"""New messages that one `take` looks at, for each that it may take: the others are expired or blocked."""

_MESSAGE = "m.id, m.key, m.content_type, m.metadata, m.data, m.expires"


class NewMessage(NamedTuple):
    """A row of `messages` to be."""

    topic: str
    published: int
    expires: int | None
    key: str | None
    content_type: str
    metadata: bytes | None
    data: bytes


class Taken(NamedTuple):
    """A message that now belongs to an owner."""

    group: int
    id: int
    key: str | None
    """Only where order within the key is kept."""
    failures: int
    content_type: str
    metadata: bytes | None
    data: bytes


class Batch(NamedTuple):
    """What one `take` found."""

    messages: list[Taken]
    more: bool
    """Whether it stopped before the end."""


def publish(message: NewMessage, max_size: int, cursor: Cursor) -> None:
    """Add a message. Raises `BrokerFullError` where its payload would not fit into `max_size` bytes."""
    size = len(message.data)
    if size > max_size:
        raise BackendError(f"the message is larger ({size} bytes) than maxSize ({max_size} bytes)")
    cursor.execute("UPDATE totals SET bytes = bytes + ?1 WHERE bytes + ?1 <= ?2", (size, max_size))
    if not cursor.connection.changes():
        raise BrokerFullError(
            f"the broker's file holds maxSize ({max_size} bytes) of messages, and nothing that all groups have done can "
            "be removed: let the apps take their messages, raise maxSize, or lower retention",
        )
    cursor.execute(
        "INSERT INTO messages (topic, published, expires, key, content_type, metadata, data) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        message,
    )


def publish_many(messages: Sequence[NewMessage], max_size: int, cursor: Cursor) -> list[BackendError | None]:
    """Add messages, in order; for each what was wrong with it."""
    answers: list[BackendError | None] = []
    for message in messages:
        try:
            publish(message, max_size, cursor)
            answers.append(None)
        except BackendError as error:
            answers.append(error)
    return answers


def register_group(topic: str, name: str, cursor: Cursor) -> int:
    """The number of the group; a new one begins at the oldest message that is there."""
    cursor.execute("INSERT INTO groups (topic, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (topic, name))
    row = cursor.execute("SELECT id FROM groups WHERE topic = ? AND name = ?", (topic, name)).fetchone()
    return 0 if row is None else int(row[0])


@dataclass(frozen=True, slots=True)
class Claim:
    """What an owner wants to take."""

    group: int
    topic: str
    owner: int
    limit: int
    """Messages at most."""
    ordered: bool
    """Keep the order within each partition key."""
    now: int
    known: Collection[int] | None
    """What the owner knows to have of the group; what it has beyond that, it gets again. `None`: no need to look."""


def take(claim: Claim, cursor: Cursor) -> Batch:
    """Take messages for the owner: first what is free, then what is new. Expired ones are done."""
    if claim.known is not None:
        rows = cursor.execute(
            "SELECT message FROM deliveries WHERE grp = ? AND owner = ?", (claim.group, claim.owner)
        ).fetchall()
        free(((claim.group, number) for (number,) in rows if number not in claim.known), claim.owner, cursor)
    taken, size = _take_free(claim, cursor)
    if len(taken) >= claim.limit or size >= BATCH_BYTES:
        return Batch(taken, more=True)
    row = cursor.execute("SELECT position FROM groups WHERE id = ?", (claim.group,)).fetchone()
    return Batch(taken, more=False) if row is None else _take_new(claim, int(row[0]), taken, size, cursor)


def _take_new(claim: Claim, start: int, taken: list[Taken], size: int, cursor: Cursor) -> Batch:
    """Take messages beyond the group's position, and move it. `taken` and its `size` count towards the limits."""
    group, owner, position = claim.group, claim.owner, start
    seen, most = 0, LOOKED_AT * claim.limit
    deliveries: list[tuple[int, int, int, str | None]] = []
    fresh: list[Taken] = []
    keys: set[str] = set()
    found = cursor.execute(
        f"SELECT {_MESSAGE} FROM messages m WHERE m.topic = ? AND m.id > ? ORDER BY m.id LIMIT ?",
        (claim.topic, start, most),
    )
    ended = False
    while len(taken) + len(fresh) < claim.limit and size < BATCH_BYTES:
        message = found.fetchone()
        if message is None:
            ended = seen < most
            break
        seen += 1
        position, key, content_type, metadata, data, expires = message
        if expires is not None and expires <= claim.now:
            continue
        if not claim.ordered or key is None:
            key = None
        elif key in keys:
            deliveries.append((group, position, BLOCKED, key))
            continue
        else:
            keys.add(key)
        deliveries.append((group, position, owner, key))
        fresh.append(Taken(group, position, key, 0, content_type, metadata, data))
        size += len(data)
    if position == start:
        return Batch(taken, more=False)
    behind = _keys_with_deliveries(cursor, group, keys)
    if behind:
        deliveries = [(g, number, BLOCKED if key in behind else o, key) for g, number, o, key in deliveries]
        fresh = [one for one in fresh if one.key not in behind]
    cursor.executemany("INSERT INTO deliveries (grp, message, owner, key) VALUES (?, ?, ?, ?)", deliveries)
    cursor.execute("UPDATE groups SET position = ? WHERE id = ?", (position, group))
    return Batch(taken + fresh, not ended)


def _take_free(claim: Claim, cursor: Cursor) -> tuple[list[Taken], int]:
    """Take free deliveries, and the bytes of them; those whose message is gone or expired are done."""
    group, taken, size = claim.group, list[Taken](), 0
    while len(taken) < claim.limit and size < BATCH_BYTES:
        rows = cursor.execute(
            "SELECT d.message, d.key, d.failures, m.id, m.expires, m.content_type, m.metadata "
            "FROM deliveries d INDEXED BY deliveries_free LEFT JOIN messages m ON m.id = d.message "
            f"WHERE d.grp = ? AND d.owner = {FREE} ORDER BY d.message LIMIT ?",
            (group, claim.limit - len(taken)),
        ).fetchall()
        if not rows:
            break
        for number, key, failures, found, expires, content_type, metadata in rows:
            if found is None or (expires is not None and expires <= claim.now):
                finish(cursor, group, number, key, FREE, FREE)
                continue
            if size >= BATCH_BYTES:
                break
            cursor.execute(
                "UPDATE deliveries SET owner = ? WHERE grp = ? AND message = ?", (claim.owner, group, number)
            )
            ((data,),) = cursor.execute("SELECT data FROM messages WHERE id = ?", (number,)).fetchall()
            taken.append(Taken(group, number, key, failures, content_type, metadata, data))
            size += len(data)
    return taken, size


def _keys_with_deliveries(cursor: Cursor, group: int, keys: Iterable[str]) -> set[str]:
    """Those of the keys of which a message is not done."""
    return {
        key
        for key in keys
        if cursor.execute(
            "SELECT 1 FROM deliveries INDEXED BY deliveries_by_key WHERE grp = ? AND key = ? LIMIT 1", (group, key)
        ).fetchone()
        is not None
    }


def finish(cursor: Cursor, group: int, number: int, key: str | None, owner: int, heir: int) -> int | None:
    """The delivery is done, if it is the owner's. The next message of its key, which is the heir's now."""
    cursor.execute("DELETE FROM deliveries WHERE grp = ? AND message = ? AND owner = ?", (group, number, owner))
    if key is None or not cursor.connection.changes():
        return None
    row = cursor.execute(
        "SELECT message FROM deliveries INDEXED BY deliveries_by_key WHERE grp = ? AND key = ? ORDER BY message LIMIT 1",
        (group, key),
    ).fetchone()
    if row is None:
        return None
    cursor.execute(
        f"UPDATE deliveries SET owner = ? WHERE grp = ? AND message = ? AND owner = {BLOCKED}",
        (heir, group, row[0]),
    )
    return int(row[0]) if cursor.connection.changes() else None


@dataclass(slots=True)
class Settlement:
    """What became of deliveries, each a group and a message."""

    done: list[tuple[int, int]]
    done_in_order: list[tuple[int, int, str]]
    """With their partition key."""
    failed: list[tuple[int, int]]
    freed: list[tuple[int, int]]

    def __bool__(self) -> bool:
        return bool(self.done or self.done_in_order or self.failed or self.freed)


def settle(settlement: Settlement, owner: int, now: int, cursor: Cursor) -> list[Taken]:
    """Write down what became of the owner's deliveries. The next messages of the keys that are done, now the owner's."""
    cursor.executemany(
        "DELETE FROM deliveries WHERE grp = ? AND message = ? AND owner = ?",
        [(group, number, owner) for group, number in settlement.done],
    )
    cursor.executemany(
        "UPDATE deliveries SET failures = failures + 1 WHERE grp = ? AND message = ? AND owner = ?",
        [(group, number, owner) for group, number in settlement.failed],
    )
    free(settlement.freed, owner, cursor)
    return [
        next_one
        for group, number, key in settlement.done_in_order
        if (next_one := _hand_on(cursor, group, number, key, owner, now)) is not None
    ]


def _hand_on(cursor: Cursor, group: int, number: int, key: str, owner: int, now: int) -> Taken | None:
    """The delivery is done; the next one of its key that has not expired, if any."""
    done: int | None = number
    while (done := finish(cursor, group, done, key, owner, owner)) is not None:
        row = cursor.execute(
            f"SELECT d.failures, {_MESSAGE} FROM messages m JOIN deliveries d ON d.grp = ? AND d.message = m.id "
            "WHERE m.id = ?",
            (group, done),
        ).fetchone()
        if row is not None and (row[6] is None or row[6] > now):
            return Taken(group, done, key, row[0], row[3], row[4], row[5])
    return None


def free(deliveries: Iterable[tuple[int, int]], owner: int, cursor: Cursor) -> None:
    """Give back deliveries, uncounted."""
    cursor.executemany(
        f"UPDATE deliveries SET owner = {FREE} WHERE grp = ? AND message = ? AND owner = ?",
        [(group, number, owner) for group, number in deliveries],
    )


def pending_of(group: int, topic: str, now: int, cursor: Cursor) -> int:
    """Messages of the group that are not done, but for new ones that have expired."""
    row = cursor.execute(
        "WITH g AS (SELECT position FROM groups WHERE id = ?1) SELECT "
        "(SELECT count(*) FROM deliveries WHERE grp = ?1) "
        "+ (SELECT count(*) FROM messages WHERE topic = ?2 AND id > (SELECT position FROM g)) "
        "- (SELECT count(*) FROM messages INDEXED BY messages_by_expiry WHERE expires IS NOT NULL AND expires <= ?3 "
        "AND topic = ?2 AND id > (SELECT position FROM g))",
        (group, topic, now),
    ).fetchone()
    return 0 if row is None else int(row[0] or 0)


def find_groups_with_work(cursor: Cursor) -> set[int]:
    """The groups, of any instance, that have new or free messages."""
    rows = cursor.execute(
        "SELECT g.id FROM groups g WHERE EXISTS (SELECT 1 FROM messages m WHERE m.topic = g.topic AND m.id > g.position) "
        f"OR EXISTS (SELECT 1 FROM deliveries d INDEXED BY deliveries_free WHERE d.grp = g.id AND d.owner = {FREE})",
    ).fetchall()
    return {int(row[0]) for row in rows}
