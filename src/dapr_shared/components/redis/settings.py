"""The settings that all Redis components share: where the server is, who we are there, how hard to try.

Last step of the request road. Names, defaults and units are Dapr's (reference components §2): a bare number of a time
means milliseconds. What Dapr's driver offers beyond these (`minIdleConns`, `maxConnAge`, `idleTimeout`,
`idleCheckFrequency`) is ignored here: the client closes idle connections only at its end.
"""

from __future__ import annotations

import os
from typing import Annotated, NamedTuple

from dapr_shared.contracts.settings import Kind, Setting, SettingError, Settings

DEFAULT_PORT = 6379
DISABLED = -1.0
"""What a negative time or number says."""
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 - compared with, not listened on
_NANOSECONDS = 1_000_000_000


class Address(NamedTuple):
    """Where a server or sentinel listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class RedisSettings(Settings, frozen=True, kw_only=True):
    """The settings of every Redis component."""

    redis_host: Annotated[
        str,
        Setting(
            "Host, or host:port; for a cluster or sentinels several between commas.", example="redis.example.org:6379"
        ),
    ]
    redis_port: Annotated[
        int, Setting("Port of the hosts that name none; 0: 6379.", Kind.INTEGER, minimum=0, example="6379")
    ] = 0
    redis_username: Annotated[str, Setting("User of the server's access control list; empty: its default user.")] = ""
    redis_password: Annotated[str, Setting("Password; empty: none is sent.", secret=True)] = ""
    redis_db: Annotated[
        int, Setting("Number of the database; a cluster has 0 alone.", Kind.INTEGER, name="redisDB", minimum=0)
    ] = 0
    redis_type: Annotated[
        str,
        Setting("node: one server, also one behind sentinels. cluster: Redis Cluster.", choices=("node", "cluster")),
    ] = "node"
    failover: Annotated[bool, Setting("redisHost names sentinels, which are asked for the primary.", Kind.BOOLEAN)] = (
        False
    )
    sentinel_master_name: Annotated[str, Setting("The name that the sentinels have for the primary.")] = ""
    sentinel_username: Annotated[str, Setting("User at the sentinels.")] = ""
    sentinel_password: Annotated[str, Setting("Password at the sentinels.", secret=True)] = ""
    enable_tls: Annotated[bool, Setting("Speak TLS with servers and sentinels.", Kind.BOOLEAN, name="enableTLS")] = (
        False
    )
    insecure_skip_tls_verify: Annotated[
        bool,
        Setting("Accept any certificate: for tests alone.", Kind.BOOLEAN, name="insecureSkipTLSVerify"),
    ] = False
    ca_cert: Annotated[
        str,
        Setting("Certificates to trust, in PEM, instead of the machine's; ours, daprd has none.", name="caCert"),
    ] = ""
    client_cert: Annotated[str, Setting("Our certificate, in PEM.")] = ""
    client_key: Annotated[str, Setting("The key of our certificate, in PEM.", secret=True)] = ""
    redis_max_retries: Annotated[
        int,
        Setting(
            "How often a call is sent again when the server cannot be reached; 0: 3 times, -1: never.",
            Kind.INTEGER,
            aliases=("maxRetries",),
            minimum=-1,
        ),
    ] = 3
    redis_min_retry_interval: Annotated[
        float | None,
        Setting(
            "Time before the first retry; doubled with each one. -1: none. Default: 2 s for state and locks, else 8 ms.",
            Kind.MILLISECONDS,
            unit="seconds",
        ),
    ] = None
    max_retry_backoff: Annotated[
        int | None, Setting("Older name of redisMinRetryInterval, in nanoseconds.", Kind.INTEGER)
    ] = None
    redis_max_retry_interval: Annotated[
        float, Setting("Longest time before a retry; -1: none.", Kind.MILLISECONDS, unit="seconds")
    ] = 0.512
    dial_timeout: Annotated[
        float, Setting("How long connecting may take.", Kind.MILLISECONDS, unit="seconds", example="5s")
    ] = 5.0
    read_timeout: Annotated[
        float, Setting("How long an answer may take; -1: for ever.", Kind.MILLISECONDS, unit="seconds", example="3s")
    ] = 3.0
    pool_size: Annotated[
        int,
        Setting(
            "Calls at a time, each on a connection, behind sentinels and in a cluster; 0: ten for each processor core. A "
            "single server has one connection for all.",
            Kind.INTEGER,
            minimum=0,
        ),
    ] = 0
    pool_timeout: Annotated[
        float,
        Setting("How long a call waits for its turn; 0: readTimeout and a second.", Kind.MILLISECONDS, unit="seconds"),
    ] = 0.0
    use_entra_id: Annotated[
        bool, Setting("Not supported yet: true is an error.", Kind.BOOLEAN, name="useEntraID", aliases=("useAzureAD",))
    ] = False
    use_oidc: Annotated[bool, Setting("Not supported yet: true is an error.", Kind.BOOLEAN, name="useOIDC")] = False

    def __post_init__(self) -> None:
        """Check what no single annotation says. Raises `SettingError`."""
        addresses = self.addresses
        if self.redis_type == "node" and not self.failover and len(addresses) > 1:
            raise SettingError("redisHost", "names several hosts: set redisType to cluster, or failover to true")
        if self.failover and not self.sentinel_master_name:
            raise SettingError("sentinelMasterName", "is required with failover: the primary's name at the sentinels")
        if self.failover and self.redis_type == "cluster":
            raise SettingError("failover", "is not for redisType cluster: a cluster fails over by itself")
        if self.redis_type == "cluster" and self.redis_db:
            raise SettingError("redisDB", "must be 0 with redisType cluster")
        if bool(self.client_cert) != bool(self.client_key):
            raise SettingError("clientKey", "clientCert and clientKey need each other")
        for name, given in (("useEntraID", self.use_entra_id), ("useOIDC", self.use_oidc)):
            if given:
                raise SettingError(name, "is not supported yet: use redisUsername and redisPassword")

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The hosts with their ports. Raises `SettingError`."""
        return tuple(_address(text.strip(), self.redis_port) for text in self.redis_host.split(","))

    @property
    def retries(self) -> int:
        """How often a call is sent again."""
        return max(0, self.redis_max_retries or 3)

    def retry_delay(self, attempt: int) -> float:
        """Seconds before the retry with this number, the first being 0: doubled each time, up to the maximum."""
        first = self.redis_min_retry_interval
        if first is None:
            older = self.max_retry_backoff
            first = self.default_min_retry if older is None else older / _NANOSECONDS
        if first < 0 or self.redis_max_retry_interval < 0:
            return 0.0
        return min(first * 2.0**attempt, self.redis_max_retry_interval)

    @property
    def default_min_retry(self) -> float:
        """The default of `redisMinRetryInterval`, in seconds."""
        return 0.008

    @property
    def answer_timeout(self) -> float | None:
        """Seconds that an answer may take; `None`: for ever."""
        return None if self.read_timeout < 0 else self.read_timeout or 3.0

    @property
    def calls_at_a_time(self) -> int:
        """How many calls may be under way."""
        return self.pool_size or 10 * (os.cpu_count() or 1)

    @property
    def shared_connections(self) -> int:
        """How many calls may be under way where each has a connection; 0: all go over one, in one line."""
        return self.calls_at_a_time if self.failover or self.redis_type == "cluster" else 0

    @property
    def turn_timeout(self) -> float:
        """Seconds that a call waits for its turn."""
        return self.pool_timeout or (self.answer_timeout or 3.0) + 1

    @property
    def location(self) -> str:
        """What is reached, for `Component.data_location`: hosts, ports and database, no secret."""
        hosts = sorted(
            f"{'localhost' if a.host.lower() in _LOCAL else a.host.lower()}:{a.port}" for a in self.addresses
        )
        master = f"/{self.sentinel_master_name}" if self.failover else ""
        return f"redis:{','.join(hosts)}{master}/{self.redis_db}"


def _address(text: str, port: int) -> Address:
    """Split `host`, `host:port`, `[v6]` or `[v6]:port`. Raises `SettingError`."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        given = rest.removeprefix(":")
        good = bool(closed) and (not rest or rest.startswith(":"))
    elif text.count(":") > 1:
        host, given, good = text, "", True
    else:
        host, _, given = text.partition(":")
        good = True
    if not host or not good or (given and not (given.isdecimal() and 0 < int(given) < 2**16)):
        raise SettingError("redisHost", f"expected host or host:port, found {text!r}")
    if given and port and int(given) != port:
        raise SettingError("redisPort", f"is {port}, and redisHost says {text}: give the port once")
    return Address(host, int(given) if given else port or DEFAULT_PORT)
