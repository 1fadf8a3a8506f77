"""Opening the client library for one server, a primary behind sentinels, or a cluster.

Last step of the request road. What is particular to one of the three is here; `client` is the same for all.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from typing import TYPE_CHECKING, Any, cast

from redis import exceptions as library
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import Connection, ConnectionPool
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from redis.asyncio.retry import Retry

    from dapr_shared.components.redis.settings import RedisSettings

UNBOUNDED = 2**31
"""Connections of a pool: the client's turns bound the calls, and each topic's watcher has one more."""
CLIENT_NAME = "dapr-shared"
"""How our connections are called in CLIENT LIST."""


def open_redis(settings: RedisSettings, retry: Retry) -> Any:
    """A pool of connections, or a cluster's client. Connects nothing yet. Raises `OSError` or `ValueError` for PEM."""
    context = tls_context(settings)
    common: dict[str, Any] = {
        "username": settings.redis_username or None,
        "password": settings.redis_password or None,
        "socket_timeout": None,  # the client's own: the library's may swallow a cancellation
        "socket_connect_timeout": settings.dial_timeout or 5.0,
        "protocol": 2,
        "client_name": CLIENT_NAME,
        "retry": retry,
    }
    if settings.redis_type == "cluster":
        return _cluster(settings, common, context)
    common["db"] = settings.redis_db
    if settings.failover:
        return _behind_sentinels(settings, common, context)
    (address,) = settings.addresses
    return ConnectionPool(
        connection_class=_connection_class(Connection, context),
        max_connections=UNBOUNDED,
        host=address.host,
        port=address.port,
        **common,
    )


def _behind_sentinels(settings: RedisSettings, common: dict[str, Any], context: ssl.SSLContext | None) -> Any:
    at_sentinels: dict[str, Any] = {
        "username": settings.sentinel_username or None,
        "password": settings.sentinel_password or None,
        "socket_timeout": settings.answer_timeout,
        "socket_connect_timeout": common["socket_connect_timeout"],
        "retry": common["retry"],
        "protocol": 2,
    }
    sentinel = _Sentinels([(a.host, a.port) for a in settings.addresses], sentinel_kwargs=at_sentinels)
    for client in cast("list[Any]", sentinel.sentinels):
        client.connection_pool.connection_class = _connection_class(Connection, context)
    return SentinelConnectionPool(
        settings.sentinel_master_name,
        sentinel,
        connection_class=_connection_class(SentinelManagedConnection, context),
        max_connections=UNBOUNDED,
        **common,
    )


class _Sentinels(Sentinel):
    """Sentinels that are asked once for all who connect at the same time.

    The library reorders its list after each answer, by an index from before it asked: of answers at the same time one
    drops a sentinel from the list for good.
    """

    _asking: asyncio.Task[Any] | None = None

    async def discover_master(self, service_name: str) -> Any:
        if self._asking is None:
            asking = cast("Coroutine[Any, Any, Any]", super().discover_master(service_name))
            self._asking = asyncio.create_task(asking, name="ask the sentinels")
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    def _asked(self, task: asyncio.Task[Any]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # whoever still waits has it

    async def aclose(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        await super().aclose()


def _cluster(settings: RedisSettings, common: dict[str, Any], context: ssl.SSLContext | None) -> Any:
    cluster: Any = RedisCluster(
        startup_nodes=[ClusterNode(a.host, a.port) for a in settings.addresses],
        max_connections=UNBOUNDED,
        **common,
    )
    for name in tuple(cluster.response_callbacks):
        if not name.startswith(("CLUSTER", "COMMAND")):  # what the library asks for itself; ours come as they are
            del cluster.response_callbacks[name]
    kind = _connection_class(Connection, context)
    cluster.connection_kwargs["connection_class"] = kind
    for node in cluster.startup_nodes:
        node.connection_class = kind
    return cluster


def _connection_class(base: type[Any], context: ssl.SSLContext | None) -> type[Any]:
    """A class of connections that are as careful as ours must be.

    A connection whose handshake is cut off, by a cancellation say, is closed: its next user would read the handshake's
    replies as its own. TLS is by our context: the library would read key files for each connection.
    """

    class Careful(base):
        async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
            try:
                await super().connect_check_health(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType]
            except BaseException:
                await self.disconnect(nowait=True)
                raise

        def _connection_arguments(self) -> dict[str, Any]:
            given: Any = super()._connection_arguments()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            arguments = cast("dict[str, Any]", given)
            return {**arguments, "ssl": context} if context is not None else arguments

    return Careful


def tls_context(settings: RedisSettings) -> ssl.SSLContext | None:
    """How we speak TLS; `None`: not at all. Raises `OSError` or `ValueError` for what is no PEM."""
    if not settings.enable_tls:
        return None
    context = ssl.create_default_context(cadata=settings.ca_cert or None)
    if settings.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert:
        with tempfile.TemporaryDirectory() as folder:  # the ssl module reads them from files alone; 0700, gone at once
            paths = [os.path.join(folder, name) for name in ("cert.pem", "key.pem")]  # noqa: PTH118
            for path, text in zip(paths, (settings.client_cert, settings.client_key), strict=True):
                with open(path, "x", encoding="utf-8", opener=_private) as file:
                    file.write(text)
            context.load_cert_chain(*paths)
    return context


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


async def close(opened: Any) -> None:
    """Close all connections, those to sentinels too."""
    await opened.aclose()
    sentinels: Any = getattr(opened, "sentinel_manager", None)
    if sentinels is not None:
        await sentinels.aclose()


async def take(opened: Any, key: str | None) -> tuple[Any, Callable[[], Awaitable[None]]]:
    """A connection that is nobody else's, and what ends it. `key`: whose node in a cluster."""
    if isinstance(opened, ConnectionPool):
        pool = cast("Any", opened)
        connection = await pool.get_connection()

        async def give_back() -> None:
            await pool.release(connection)

        return connection, give_back
    await opened.initialize()
    node = opened.get_node_from_key(key or "") or opened.get_default_node()
    connection = node.acquire_connection()
    await connection.connect()

    async def give_back_to_node() -> None:
        node.release(connection)

    return connection, give_back_to_node


async def send_to_cluster(
    cluster: Any, commands: Sequence[tuple[Any, ...]], key: str | None, *, again: bool
) -> list[Any]:
    """Send to the nodes that have the keys; the replies in order, a server's error as a reply.

    `again`: they may be carried out twice. Then the library itself sends them again where a node is lost.
    """
    if len(commands) == 1 or not again:
        return [await _send_to_node(cluster, command, key, again=again) for command in commands]
    pipeline = cluster.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return await pipeline.execute(raise_on_error=False)


async def _send_to_node(cluster: Any, command: tuple[Any, ...], key: str | None, *, again: bool) -> Any:
    try:
        if key is None and again:
            return await cluster.execute_command(*command)
        await cluster.initialize()
        node = cluster.get_node_from_key(key if key is not None else _key_of(command))
        if key is not None:
            return await node.execute_command(*command)
        return await cluster.execute_command(*command, target_nodes=node)  # to this node: once, but where it has moved
    except library.ResponseError as error:
        return error


def _key_of(command: tuple[Any, ...]) -> Any:
    """The first key of a command with one."""
    return command[3 if command[0] in {"EVAL", "EVALSHA"} else 1]


async def keys_of_cluster(cluster: Any, glob: str, step: int, most: float) -> set[bytes]:
    """All keys of all primaries that match; with more than `most` found, the rest is not looked for."""
    await cluster.initialize()
    found: set[bytes] = set()
    for node in cluster.get_primaries():
        cursor: Any = b""
        while cursor != b"0" and len(found) <= most:
            command = ("SCAN", cursor or b"0", "MATCH", glob, "COUNT", step)
            cursor, names = await node.execute_command(*command)
            found.update(names)
    return found
