"""Where a PostgreSQL server is and how to reach it: the connection string and the settings that override it.

Beside both roads: used when a component's settings are read and when a connection is made. The string has one of
libpq's two forms (`postgresql://user@host/db?sslmode=require`, `host=… user=…`); parameters of pgx's pool, which daprd
documents, are understood too. The string is a secret: no message here shows a part of it that could be one.
"""

from __future__ import annotations

import getpass
import os
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.settings import SettingError
from dapr_shared.core.durations import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELD = "connectionString"
DEFAULT_PORT = 5432
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSION_ATTRIBUTES = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")

_SCHEMES = ("postgres://", "postgresql://")
_IGNORED = frozenset({
    "pool_min_conns", "pool_min_idle_conns", "pool_max_conn_lifetime", "pool_max_conn_lifetime_jitter",
    "pool_health_check_period", "statement_cache_capacity", "description_cache_capacity", "fallback_application_name",
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "gssencmode", "sslsni", "sslcompression",
    "channel_binding",
})  # fmt: skip
"""Parameters of libpq and of daprd's driver that have no counterpart here: they tune and decide nothing."""
_REFUSED = {
    "service": "service files are not read: write the parameters out",
    "servicefile": "service files are not read: write the parameters out",
    "krbsrvname": "Kerberos is not supported",
    "sslcrl": "revocation lists are not supported",
}
_PAIR = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Tls:
    """How the connection is encrypted and what is verified; all but `mode` are paths of files."""

    mode: str = "prefer"
    root_certificate: str = ""
    """Empty or `system`: what the machine trusts."""
    certificate: str = ""
    key: str = ""
    password: str = field(default="", repr=False)

    def arguments(self) -> dict[str, Any]:
        """The arguments for asyncpg. Reads the files: what was rotated counts for the next connection.

        Raises `BackendError`.
        """
        if self.mode in {"disable", "allow", "prefer"}:
            files = {"sslcert": self.certificate, "sslkey": self.key, "sslpassword": self.password}
            given = {name: value for name, value in files.items() if value}
            if given and self.mode != "disable":
                return {"ssl": self.mode, "dsn": f"postgresql://?{urlencode(given)}"}
            return {"ssl": self.mode}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.mode == "verify-full"
        name, path = "sslrootcert", self.root_certificate
        try:
            if self.mode == "require" and not self.root_certificate:
                context.verify_mode = ssl.CERT_NONE
            elif self.root_certificate in {"", "system"}:
                context.load_default_certs(ssl.Purpose.SERVER_AUTH)
            else:
                context.load_verify_locations(cafile=self.root_certificate)
            name, path = "sslcert and sslkey", f"{self.certificate} {self.key}"
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None, password=lambda: self.password)
        except OSError as error:  # of which `ssl.SSLError` is one
            raise BackendError(
                f"{name} cannot be read from {path}: {error.strerror or type(error).__name__}"
            ) from error
        return {"ssl": context}


@dataclass(frozen=True, slots=True)
class Address:
    """A server, a database and what the connection needs. Its text form is for messages: host, port and database."""

    hosts: tuple[tuple[str, int], ...]
    """Tried in this order. A name that begins with `/` is the directory of a Unix socket."""
    user: str
    database: str
    password: str | None = field(default=None, repr=False)
    """`None`: from the password file, if there is one."""
    password_file: str = ""
    tls: Tls = Tls()
    connect_timeout: float | None = None
    """Seconds for making one connection."""
    session: str = "any"
    """`target_session_attrs`: which of the hosts will do."""
    max_connections: int = 0
    max_idle_time: float = 0.0
    parameters: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Run-time parameters of the server, for example `application_name` and `search_path`."""

    def __str__(self) -> str:
        return f"{self.servers()}/{self.database}"

    def servers(self) -> str:
        """The hosts with their ports."""
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)


def parse_address(
    connection_string: str, overrides: Mapping[str, str], environment: Mapping[str, str] = os.environ
) -> Address:
    """Read a connection string; `overrides` (not empty, under libpq's names) win over what stands in it.

    What neither has is taken from libpq's variables (`PGHOST`, `PGUSER`, …), then from libpq's defaults; without a
    host it is `localhost`. Raises `SettingError`, which shows nothing of the string.
    """
    text = connection_string.strip()
    given = _from_url(text) if text.startswith(_SCHEMES) else _from_pairs(text)
    given |= overrides
    if not given:
        raise SettingError(FIELD, "is required, or host, user and database")
    for name, problem in _REFUSED.items():
        if name in given:
            raise SettingError(FIELD, f"{name}: {problem}")

    def take(name: str, *others: str, variable: str = "", default: str = "") -> str:
        values = [value for each in (name, *others) if (value := given.pop(each, ""))]
        return values[0] if values else (environment.get(variable, "") if variable else "") or default

    user = take("user", variable="PGUSER") or _login_name()
    database = take("database", "dbname", variable="PGDATABASE", default=user)
    # As in daprd a hostaddr is the host: a certificate must then name the address.
    host = take("hostaddr", "host", variable="PGHOST", default="localhost")
    address = Address(
        hosts=_hosts(host, take("port", variable="PGPORT", default=str(DEFAULT_PORT))),
        user=user,
        database=database,
        password=take("password", variable="PGPASSWORD") or None,
        password_file=take("passfile"),
        tls=Tls(
            mode=_choice("sslmode", take("sslmode", variable="PGSSLMODE", default="prefer"), SSL_MODES),
            root_certificate=take("sslrootcert", variable="PGSSLROOTCERT"),
            certificate=take("sslcert", variable="PGSSLCERT"),
            key=take("sslkey", variable="PGSSLKEY"),
            password=take("sslpassword"),
        ),
        connect_timeout=_number("connect_timeout", take("connect_timeout", default="0")) or None,
        session=_choice("target_session_attrs", take("target_session_attrs", default="any"), SESSION_ATTRIBUTES),
        max_connections=int(_number("pool_max_conns", take("pool_max_conns", default="0"))),
        max_idle_time=_duration("pool_max_conn_idle_time", take("pool_max_conn_idle_time", default="0")),
        parameters={name: value for name, value in given.items() if name not in _IGNORED},
    )
    if any("\0" in value for value in (user, database, address.password or "")):
        raise SettingError(FIELD, "user, password and database must not contain NUL")
    return address


def _from_url(text: str) -> dict[str, str]:
    rest, _, query = text.partition("://")[2].partition("?")
    authority, _, database = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    given = {"user": unquote(user), "password": unquote(password), "database": unquote(database)}
    names: list[str] = []
    ports: list[str] = []
    for each in hosts.split(",") if hosts else ():
        match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d*))?", each)
        if match is None:
            raise SettingError(FIELD, "has a host that cannot be read: expected host, host:port or [IPv6]:port")
        names.append(unquote(match[1].strip("[]")))
        ports.append(match[2] or "")
    given |= {"host": ",".join(names), "port": ",".join(ports) if any(ports) else ""}
    try:
        given |= dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise SettingError(FIELD, "has parameters after '?' that cannot be read: expected name=value&…") from None
    return {name: value for name, value in given.items() if value}


def _from_pairs(text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None:
            raise SettingError(
                FIELD,
                "is neither postgresql://… nor pairs as in host=db.example user=app (quote a value with blanks: 'a b')",
            )
        value = match[2] if match[2] is not None else match[3]
        given[match[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        position = match.end()
    return {name: value for name, value in given.items() if value}


def _hosts(names: str, ports: str) -> tuple[tuple[str, int], ...]:
    hosts = names.split(",")
    numbers = [_port(port) for port in ports.split(",")]
    if len(numbers) == 1:
        numbers *= len(hosts)
    if len(numbers) != len(hosts):
        raise SettingError(
            FIELD, f"has {len(hosts)} hosts and {len(numbers)} ports: give one port, or one for each host"
        )
    return tuple(zip(hosts, numbers, strict=True))


def _port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise SettingError("port", "must be a number from 1 to 65535")
    return int(text)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise SettingError(FIELD, f"{name} must be one of {', '.join(choices)}")
    return value


def _number(name: str, text: str) -> float:
    if not text.isdecimal():
        raise SettingError(FIELD, f"{name} must be a whole number")
    return float(text)


def _duration(name: str, text: str) -> float:
    with suppress(ValueError):
        return parse_duration(text)
    raise SettingError(FIELD, f"{name} must be a duration such as 30m")


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise SettingError("user", "is required: give it or the variable PGUSER") from error
