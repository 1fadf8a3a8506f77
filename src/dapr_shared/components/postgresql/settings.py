"""The settings of the PostgreSQL components: the connection, then what each type adds.

Beside both roads. Names, aliases and defaults are daprd's (reference components §3).
"""

from __future__ import annotations

import re
from typing import Annotated

from dapr_shared.components.postgresql.address import Address, parse_address
from dapr_shared.contracts.settings import Kind, Setting, SettingError, Settings

DEFAULT_CONNECTIONS = 10
"""Most connections of one component, unless told otherwise."""
DEFAULT_IDLE_TIME = 1800.0
"""Seconds until a connection that nobody uses is closed, unless told otherwise."""
MAX_CONNECTIONS = 1000

_PART = r'(?:[A-Za-z_][A-Za-z0-9_$]{0,62}|"[^"\x00]{1,63}")'
_TABLE = re.compile(rf"(?:{_PART}\.)?{_PART}")
_NO_STATEMENTS_KEPT = ("cache_describe", "describe_exec", "exec", "simple_protocol")


class PostgresSettings(Settings, frozen=True, kw_only=True):
    """How to reach the server. What is given beside the connection string wins over what stands in it."""

    connection_string: Annotated[
        str,
        Setting(
            "Where the server is, as a URL or as pairs. The parameters are libpq's: sslmode, sslrootcert, sslcert, "
            "sslkey, connect_timeout, target_session_attrs, …; others are sent to the server.",
            aliases=("url",),
            secret=True,
            example="host=localhost user=postgres password=… dbname=dapr",
        ),
    ] = ""
    host: Annotated[str, Setting("Host name or address; several between commas are tried in order.")] = ""
    hostaddr: Annotated[str, Setting("Address to connect to in place of host.")] = ""
    port: Annotated[str, Setting("Port of the server.", example="5432")] = ""
    database: Annotated[str, Setting("Name of the database.")] = ""
    user: Annotated[str, Setting("Name of the database user.")] = ""
    password: Annotated[str, Setting("Password of the user.", secret=True)] = ""
    ssl_root_cert: Annotated[
        str, Setting("File of certificates that the server's must lead to; with sslmode=verify-ca or verify-full.")
    ] = ""
    max_conns: Annotated[
        int,
        Setting(
            f"Most connections to the server, shared by all apps; 0: {DEFAULT_CONNECTIONS}.", Kind.INTEGER, minimum=0
        ),
    ] = 0
    connection_max_idle_time: Annotated[
        float,
        Setting(
            f"Time until an unused connection is closed; 0: {DEFAULT_IDLE_TIME:g} s.",
            Kind.DURATION,
            aliases=("connMaxIdleTime",),
            unit="seconds",
            minimum=0,
            example="30m",
        ),
    ] = 0.0
    query_exec_mode: Annotated[
        str,
        Setting(
            "cache_statement keeps prepared statements; any other mode keeps none, as PgBouncer needs it when it pools "
            "transactions.",
            choices=("", "cache_statement", *_NO_STATEMENTS_KEPT),
        ),
    ] = ""
    timeout: Annotated[
        float,
        Setting(
            "How long a call may take.",
            Kind.DURATION,
            aliases=("timeoutInSeconds",),
            unit="seconds",
            minimum=1,
            example="20s",
        ),
    ] = 20.0
    use_azure_ad: Annotated[
        bool, Setting("Sign in with Entra ID: not supported here, must be false.", Kind.BOOLEAN, name="useAzureAD")
    ] = False
    use_aws_iam: Annotated[
        bool, Setting("Sign in with AWS IAM: not supported here, must be false.", Kind.BOOLEAN, name="useAWSIAM")
    ] = False

    def __post_init__(self) -> None:
        """Check what no single annotation says. Raises `SettingError`."""
        for name, given in (("useAzureAD", self.use_azure_ad), ("useAWSIAM", self.use_aws_iam)):
            if given:
                raise SettingError(name, "is not supported: use a user with a password or a client certificate")
        if self.connections > MAX_CONNECTIONS:
            raise SettingError("maxConns", f"must be at most {MAX_CONNECTIONS}, found {self.connections}")

    def address(self) -> Address:
        """Where the server is. Raises `SettingError`."""
        overrides = {
            "host": self.host,
            "hostaddr": self.hostaddr,
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": self.password,
            "sslrootcert": self.ssl_root_cert,
        }
        return parse_address(self.connection_string, {name: value for name, value in overrides.items() if value})

    @property
    def place(self) -> str:
        """Servers and database, for `Component.data_location`: how they are reached does not count."""
        address = self.address()
        servers = ",".join(f"{host.lower()}:{port}" for host, port in sorted(address.hosts))
        return f"postgresql:{servers}/{address.database}"

    @property
    def connections(self) -> int:
        """Most connections."""
        return self.max_conns or self.address().max_connections or DEFAULT_CONNECTIONS

    @property
    def idle_time(self) -> float:
        """Seconds until an unused connection is closed."""
        return self.connection_max_idle_time or self.address().max_idle_time or DEFAULT_IDLE_TIME

    @property
    def keeps_statements(self) -> bool:
        """Whether statements stay prepared on a connection."""
        return self.query_exec_mode not in _NO_STATEMENTS_KEPT


class PostgresStateSettings(PostgresSettings, frozen=True, kw_only=True):
    """What both versions of `state.postgresql` have."""

    metadata_table_name: Annotated[
        str, Setting("Table of the migration level and the last cleanup, `table` or `schema.table`.")
    ] = "dapr_metadata"
    cleanup_interval: Annotated[
        float,
        Setting(
            "Time between removals of expired values; 0 or less: never.",
            Kind.DURATION,
            aliases=("cleanupIntervalInSeconds",),
            unit="seconds",
            example="1h",
        ),
    ] = 3600.0

    def __post_init__(self) -> None:
        """Check the names of the tables. Raises `SettingError`."""
        super().__post_init__()
        check_table("metadataTableName", self.metadata_table_name)


class PostgresStateV1Settings(PostgresStateSettings, frozen=True, kw_only=True):
    """The settings of `state.postgresql` version v1."""

    table_name: Annotated[str, Setting("Table of the values, `table` or `schema.table`.")] = "state"

    def __post_init__(self) -> None:
        """Check the names of the tables. Raises `SettingError`."""
        super().__post_init__()
        check_table("tableName", self.table_name)
        if self.table_name.casefold() == self.metadata_table_name.casefold():
            raise SettingError("metadataTableName", "must not be the table of tableName")


class PostgresStateV2Settings(PostgresStateSettings, frozen=True, kw_only=True):
    """The settings of `state.postgresql` version v2."""

    table_prefix: Annotated[
        str,
        Setting("What the names of tables begin with, for example `dapr_` or `schema.`; the table is `<prefix>state`."),
    ] = ""

    def __post_init__(self) -> None:
        """Check the names of the tables. Raises `SettingError`."""
        super().__post_init__()
        if '"' in self.table_prefix or not _TABLE.fullmatch(f"{self.table_prefix}state"):
            raise SettingError(
                "tablePrefix", f"must be the beginning of the name of a table, found {self.table_prefix!r}"
            )
        if self.state_table.casefold() == self.metadata_table_name.casefold():
            raise SettingError("metadataTableName", "must not be the table of the values")

    @property
    def state_table(self) -> str:
        """Table of the values."""
        return f"{self.table_prefix}state"


def check_table(field: str, name: str) -> None:
    """Raise `SettingError` unless this is the name of a table as SQL has it: `table`, `schema.table`, parts in quotes."""
    if not _TABLE.fullmatch(name):
        raise SettingError(field, f'must be table or schema.table (letters, digits, _ or "quoted"), found {name!r}')
