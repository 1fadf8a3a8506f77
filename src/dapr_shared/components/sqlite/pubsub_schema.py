"""The file of `pubsub.sqlite`: its tables, its version, as `own_file` opens it.

Last step of the request road and first of the delivery road.

    messages    what was published, in the order of `id` (never used twice); removed by age, by expiry and by size
    groups      one row a consumer group of a topic. `position`: every message of the topic up to it has been taken
    deliveries  the exceptions below `position`: messages that were taken and are not done. No row means done, so an
                acknowledgement deletes one row, and a group that has done all has none
                owner > 0   an instance has it: with a handler, ready for one, or waiting after a failure
                owner = 0   free: the next instance that looks takes it, before new ones
                owner = -1  blocked: an earlier message of its partition key is not done (ordered groups). The earliest
                            of a key is never blocked; when it is done, the next one is freed or handed on
                failures    deliveries so far that failed, or that were cut off by the end of their instance
    owners      instances that have the file open. `name` is that of their files in `<file>.wake`, whose lock says
                whether they live; `beat` grows while they have messages, so that one that hangs is noticed
    totals      one row: the bytes of payload in `messages`

The version is the number of steps of `LAYOUT`.
"""

from __future__ import annotations

from dapr_shared.components.sqlite.own_file import Layout

FREE = 0
"""Owner of a delivery that any instance may take."""
BLOCKED = -1
"""Owner of a delivery that waits for an earlier one of its key."""

_FIRST = f"""
CREATE TABLE messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, published INTEGER NOT NULL, expires INTEGER, key TEXT,
  content_type TEXT NOT NULL, metadata BLOB, data BLOB NOT NULL
) STRICT;
CREATE INDEX messages_by_topic ON messages (topic);
CREATE INDEX messages_by_expiry ON messages (expires, topic) WHERE expires IS NOT NULL;
CREATE TABLE groups (
  id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL DEFAULT 0,
  UNIQUE (topic, name)
) STRICT;
CREATE TABLE deliveries (
  grp INTEGER NOT NULL, message INTEGER NOT NULL, owner INTEGER NOT NULL, failures INTEGER NOT NULL DEFAULT 0, key TEXT,
  PRIMARY KEY (grp, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_free ON deliveries (grp, message) WHERE owner = {FREE};
CREATE INDEX deliveries_by_key ON deliveries (grp, key, message) WHERE key IS NOT NULL;
CREATE TABLE owners (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, beat INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE totals (id INTEGER PRIMARY KEY CHECK (id = 1), bytes INTEGER NOT NULL) STRICT;
INSERT INTO totals VALUES (1, 0);
"""  # noqa: S608 - a constant is put in
"""From an empty file to version 1."""

LAYOUT = Layout(
    "pubsub.sqlite",
    0x44504231,
    (_FIRST,),
    frozenset({"messages", "groups", "deliveries", "owners", "totals"}),
)
