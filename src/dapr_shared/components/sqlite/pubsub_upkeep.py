"""What keeps the file of `pubsub.sqlite` in order: owners that come, live, die and go, and the removal of messages.

Beside both roads. Each function is one call of `Database`, as in `pubsub_statements`: `find_…` and `payload` run in the
reader's thread, the others in the writer's.
"""
# ruff: noqa: S608 - what is put into statements is constants; all else is bound

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.components.sqlite.pubsub_schema import FREE
from dapr_shared.components.sqlite.pubsub_statements import finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.components.sqlite.cursor import Cursor

# Owners --------------------------------------------------------------------------------------------------------------


def register_owner(name: str, cursor: Cursor) -> int:
    """A new owner's number."""
    cursor.execute("INSERT INTO owners (name) VALUES (?)", (name,))
    row = cursor.execute("SELECT id FROM owners WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def beat(owner: int, name: str, cursor: Cursor) -> bool:
    """The owner lives. False: it was taken for dead meanwhile, what it had was given to others, and it is back."""
    cursor.execute("UPDATE owners SET beat = beat + 1 WHERE id = ?", (owner,))
    if cursor.connection.changes():
        return True
    cursor.execute("INSERT INTO owners (id, name) VALUES (?, ?)", (owner, name))
    return False


def find_owners(cursor: Cursor) -> list[tuple[int, str, int]]:
    """Number, name and beat of all owners."""
    return [
        (int(row[0]), str(row[1]), int(row[2]))
        for row in cursor.execute("SELECT id, name, beat FROM owners").fetchall()
    ]


def depose(owner: int, if_beat: int | None, cursor: Cursor) -> bool:
    """The owner is dead, or hangs at this beat: free what it has, counted. Whether it had anything."""
    row = cursor.execute("SELECT beat FROM owners WHERE id = ?", (owner,)).fetchone()
    if row is None or (if_beat is not None and row[0] != if_beat):
        return False
    cursor.execute(f"UPDATE deliveries SET owner = {FREE}, failures = failures + 1 WHERE owner = ?", (owner,))
    had = cursor.connection.changes() > 0
    if had or if_beat is None:
        cursor.execute("DELETE FROM owners WHERE id = ?", (owner,))
    return had


def resign(owner: int, cursor: Cursor) -> None:
    """The owner ends: free what it still has, uncounted."""
    cursor.execute(f"UPDATE deliveries SET owner = {FREE} WHERE owner = ?", (owner,))
    cursor.execute("DELETE FROM owners WHERE id = ?", (owner,))


# Removal -------------------------------------------------------------------------------------------------------------


def find_old(after: int, limit: int, cursor: Cursor) -> list[tuple[int, int]]:
    """Messages in order, and when they were published."""
    rows = cursor.execute("SELECT id, published FROM messages WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
    return [(int(row[0]), int(row[1])) for row in rows.fetchall()]


def find_expired(now: int, limit: int, cursor: Cursor) -> list[int]:
    """Messages that have expired."""
    rows = cursor.execute(
        "SELECT id FROM messages INDEXED BY messages_by_expiry WHERE expires IS NOT NULL AND expires <= ? LIMIT ?",
        (now, limit),
    )
    return [int(row[0]) for row in rows.fetchall()]


def find_done(after: int, limit: int, cursor: Cursor) -> list[int]:
    """Messages, in order, that all groups of their topic have done; none of a topic that has no group."""
    rows = cursor.execute(
        "SELECT m.id FROM messages m WHERE m.id > ? AND EXISTS (SELECT 1 FROM groups g WHERE g.topic = m.topic) "
        "AND NOT EXISTS (SELECT 1 FROM groups g WHERE g.topic = m.topic AND (g.position < m.id "
        "OR EXISTS (SELECT 1 FROM deliveries d WHERE d.grp = g.id AND d.message = m.id))) ORDER BY m.id LIMIT ?",
        (after, limit),
    )
    return [int(row[0]) for row in rows.fetchall()]


def remove(numbers: Sequence[int], cursor: Cursor) -> int:
    """Remove messages, but for those that an instance has just now. How many were removed."""
    removed = freed = 0
    for number in numbers:
        deliveries = cursor.execute(
            "SELECT d.grp, d.owner, d.key FROM messages m JOIN groups g ON g.topic = m.topic "
            "JOIN deliveries d ON d.grp = g.id AND d.message = m.id WHERE m.id = ?",
            (number,),
        ).fetchall()
        if any(owner > 0 for _, owner, _ in deliveries):
            continue
        for group, owner, key in deliveries:
            # A blocked one has an earlier one before it: its key goes on with that.
            finish(cursor, group, number, key if owner == FREE else None, owner, FREE)
        row = cursor.execute("DELETE FROM messages WHERE id = ? RETURNING length(data)", (number,)).fetchone()
        if row is not None:
            removed += 1
            freed += int(row[0])
    cursor.execute("UPDATE totals SET bytes = max(0, bytes - ?)", (freed,))
    return removed


def payload(cursor: Cursor) -> int:
    """Bytes of payload in the file."""
    row = cursor.execute("SELECT bytes FROM totals").fetchone()
    return 0 if row is None else int(row[0])
