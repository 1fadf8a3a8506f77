"""The SQL of `state.postgresql`, for the columns of version v1 and of version v2.

Last step of the request road. Table names cannot be parameters; they are checked when the settings are read. Time is
the server's, so that all instances and daprd agree.
"""
# ruff: noqa: S608 - the names of tables are checked, all else is bound

from __future__ import annotations

from dataclasses import dataclass

CLEANUP_CHUNK = 1_000
"""Expired rows that one statement removes."""


@dataclass(frozen=True, slots=True)
class Statements:
    """All statements of one component. `$1` is the key, unless said otherwise."""

    get: str
    bulk_get: str
    """`$1`: the keys."""
    put: str
    """The value in its form, then the seconds to live or NULL."""
    insert: str
    """As `put`, and changes no row where a value is there."""
    replace: str
    """As `put`, then the etag that must be there."""
    delete: str
    delete_etag: str
    """`$2`: the etag."""
    keys: str
    """`$1`: LIKE pattern, `$2`: row to start after, `$3`: number of rows or NULL."""
    delete_prefix: str
    """`$1`: the prefix."""
    claim_cleanup: str
    """`$1`: milliseconds since the last cleanup; changes a row if it is time for one."""
    remove_expired: str
    query: str
    """Beginning of a query: columns and table, and a condition on the prefix `$1`."""

    @classmethod
    def v1(cls, table: str, metadata_table: str) -> Statements:
        """Version v1: JSON text, etag `xmin`. Values are two parameters: JSON text, and whether it is binary."""
        live = "(expiredate IS NULL OR expiredate >= now())"
        columns = "key, value::text, isbinary, xmin, expiredate"
        expires = "now() + $4::integer * interval '1 second'"
        put = (
            f"INSERT INTO {table} AS t (key, value, isbinary, expiredate) VALUES ($1, $2::text::jsonb, $3, {expires}) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, isbinary = excluded.isbinary, updatedate = now(), "
            "expiredate = excluded.expiredate"
        )
        replace = (
            f"UPDATE {table} SET value = $2::text::jsonb, isbinary = $3, updatedate = now(), expiredate = {expires} "
            f"WHERE key = $1 AND xmin = $5 AND {live}"
        )
        return cls._of(
            table, metadata_table, columns, put, replace, live, "expiredate", "xmin", cleanup_key="last-cleanup"
        )

    @classmethod
    def v2(cls, table: str, metadata_table: str, prefix: str) -> Statements:
        """Version v2: bytes, etag a UUID. Values are one parameter."""
        live = "(expires_at IS NULL OR expires_at >= now())"
        columns = "key, value, etag::text, expires_at"
        expires = "now() + $3::integer * interval '1 second'"
        put = (
            f"INSERT INTO {table} AS t (key, value, etag, expires_at) VALUES ($1, $2, gen_random_uuid(), {expires}) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now(), etag = excluded.etag, "
            "expires_at = excluded.expires_at"
        )
        replace = (
            f"UPDATE {table} SET value = $2, updated_at = now(), etag = gen_random_uuid(), expires_at = {expires} "
            f"WHERE key = $1 AND etag = $4 AND {live}"
        )
        cleanup_key = f"last-cleanup-state-v2-{prefix}"
        return cls._of(
            table, metadata_table, columns, put, replace, live, "expires_at", "etag", cleanup_key=cleanup_key
        )

    @classmethod
    def _of(
        cls, table: str, metadata_table: str, columns: str, put: str, replace: str, live: str, expiry: str, etag: str,
        *, cleanup_key: str,
    ) -> Statements:  # fmt: skip
        below = "starts_with(key, $1) AND strpos(substr(key, length($1) + 1), '||') = 0"
        expired = f"({expiry} IS NOT NULL AND {expiry} < now())"
        return cls(
            get=f"SELECT {columns} FROM {table} WHERE key = $1 AND {live}",
            bulk_get=f"SELECT {columns} FROM {table} WHERE key = ANY($1::text[]) AND {live}",
            put=put,
            insert=f"{put} WHERE t.{expiry} IS NOT NULL AND t.{expiry} < now()",
            replace=replace,
            delete=f"DELETE FROM {table} WHERE key = $1",
            delete_etag=f"DELETE FROM {table} WHERE key = $1 AND {etag} = $2 AND {live}",
            keys=f"SELECT row_id, key FROM {table} WHERE key LIKE $1 ESCAPE '\\' AND {live} AND row_id > $2 "
            "ORDER BY row_id LIMIT $3",
            delete_prefix=f"DELETE FROM {table} WHERE {below}",
            claim_cleanup=f"INSERT INTO {metadata_table} AS m (key, value) VALUES ('{cleanup_key}', now()::text) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value "
            "WHERE (extract('epoch' FROM now() - m.value::timestamp with time zone) * 1000)::bigint > $1",
            remove_expired=f"DELETE FROM {table} WHERE {expired} AND key IN "
            f"(SELECT key FROM {table} WHERE {expired} LIMIT {CLEANUP_CHUNK})",
            query=f"SELECT {columns} FROM {table} WHERE {below} AND {live}",
        )
