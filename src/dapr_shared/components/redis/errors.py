"""What went wrong at Redis, in words that say what to do about it.

Last step of the request road. One place translates the client library's errors to those of the contracts. No text
holds a password, and none of a command's arguments: Redis quotes them in some of its answers.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

from redis import exceptions as library
from redis.sentinel import MasterNotFoundError

from dapr_shared.contracts.component import BackendError, BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dapr_shared.components.redis.settings import RedisSettings


class FullError(BackendError):
    """The server has reached `maxmemory` and evicts nothing: the write was refused."""


class WrongTypeError(BackendError):
    """The key holds a value of another type than the command is for."""


class NoGroupError(BackendError):
    """The stream or the consumer group is not there (any more)."""


class ReplyError(BackendError):
    """The server answered with an error that has no meaning of its own here."""


LONGEST = 200
"""Characters of a server's own text that are passed on."""

_RETRY_LATER: dict[str, str] = {
    "LOADING": "is still loading its data after a start: try again in a moment",
    "READONLY": "is a read-only replica: set redisHost to the primary, or use failover with sentinels",
    "MASTERDOWN": "is a replica that has lost its primary: look at the replication",
    "CLUSTERDOWN": "belongs to a cluster that is down: look at `cluster info` and its missing slots",
    "TRYAGAIN": "is moving keys between cluster nodes: try again in a moment",
    "NOREPLICAS": "has too few replicas to accept a write (min-replicas-to-write)",
    "BUSY": "is busy with somebody's long script: wait, or end it with SCRIPT KILL",
    "UNBLOCKED": "ended a waiting call because its role has changed: try again",
}
_REFUSED: dict[str, str] = {
    "WRONGPASS": "refuses the user name or password: correct redisUsername and redisPassword",
    "NOAUTH": "asks for a password: set redisPassword (and redisUsername where it has users)",
    "NOPERM": "does not allow the user this command or key: extend the user's rights with ACL SETUSER",
    "MISCONF": "accepts no writes because it cannot save to its disk: look at its log and its disk",
    "CROSSSLOT": "is a cluster, and the keys of one transaction are in different slots: give them one {hash tag}",
}
_CODES: dict[str, str] = {
    "has no permissions": "NOPERM",
    "can't run this command": "NOPERM",
    "can't access at least one of the keys": "NOPERM",
    "same key slot": "CROSSSLOT",
    "OOM command not allowed": "OOM",
    "NOGROUP": "NOGROUP",
    "no such key": "NOGROUP",
}
"""Codes of texts that come without one: from within a script, or from the client library."""
_IN_SCRIPT = re.compile(r"@user_script: ?\d+: -([A-Z]+) ")
"""How Redis before 7 tells the error of a command within a script."""
_QUOTES_ARGUMENTS = re.compile(r",? with args beginning with.*", re.DOTALL)


def translate(error: Exception, where: str, settings: RedisSettings) -> BackendError:
    """The contract's error for one of the library's; raise it `from` the original. `where`: the address."""
    if isinstance(error, BackendError):
        return error
    certificate = next((one for one in _chain(error) if isinstance(one, ssl.SSLError)), None)
    if certificate is not None:
        return _of_tls(certificate, where)
    if isinstance(error, library.TimeoutError | TimeoutError):
        hint = ", and whether it speaks TLS on this port (enableTLS)" if settings.enable_tls else ""
        return BackendUnavailableError(
            f"Redis at {where} did not answer in time: look at the server and the network{hint}"
        )
    if isinstance(error, library.AuthenticationError) and not getattr(error, "status_code", None):
        return BackendError(f"Redis at {where} {_REFUSED['WRONGPASS']}")
    return _of_answer(error, where, settings)


def _of_tls(error: ssl.SSLError, where: str) -> BackendError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return BackendError(
            f"the certificate of Redis at {where} is not accepted ({getattr(error, 'verify_message', error)}): set redisHost to a name "
            "that is in the certificate, and caCert to what signed it"
        )
    return BackendError(
        f"no TLS with Redis at {where} ({getattr(error, 'reason', None) or 'handshake failed'}): compare enableTLS with the port, and "
        "clientCert with what the server asks for"
    )


def _of_answer(error: Exception, where: str, settings: RedisSettings) -> BackendError:  # noqa: C901 - a case for each
    text = str(error)
    code = code_of(error)
    found: BackendError
    if code in _RETRY_LATER:
        found = BackendUnavailableError(f"Redis at {where} {_RETRY_LATER[code]}")
    elif code in _REFUSED:
        found = BackendError(f"Redis at {where} {_REFUSED[code]}")
    elif code == "OOM":
        found = FullError(
            f"Redis at {where} is out of memory and evicts nothing: raise its maxmemory or remove data; nothing was "
            "written"
        )
    elif "max number of clients" in text:
        found = BackendUnavailableError(f"Redis at {where} has no room for another connection: raise its maxclients")
    elif "DB index is out of range" in text:
        found = BackendError(f"Redis at {where} has no database {settings.redis_db}: correct redisDB")
    elif "unknown command" in text and "SENTINEL" in text:
        found = BackendError(
            f"Redis at {where} is no sentinel: with failover, redisHost names the sentinels and sentinelMasterName the "
            "primary"
        )
    elif code == "NOGROUP":
        found = NoGroupError(f"Redis at {where} has no such stream or consumer group (any more)")
    elif code == "WRONGTYPE":
        found = WrongTypeError(
            f"Redis at {where} has a value of another kind under this key (a text, a stream, or a RedisJSON document, "
            "which is not supported here): WRONGTYPE"
        )
    elif isinstance(error, library.ResponseError):
        shown = _QUOTES_ARGUMENTS.sub("", text)[:LONGEST]
        found = ReplyError(f"Redis at {where} answers: {shown}")
    elif isinstance(error, MasterNotFoundError):
        found = BackendUnavailableError(
            f"the sentinels at {where} know no primary {settings.sentinel_master_name!r}, or none can be reached: "
            "compare sentinelMasterName, and look at the sentinels"
        )
    elif isinstance(error, library.RedisClusterException):
        found = BackendUnavailableError(
            f"no node of the Redis cluster at {where} can be reached, or it is no cluster: compare redisType, and look "
            "at the servers and the network"
        )
    else:
        found = BackendUnavailableError(
            f"Redis at {where} cannot be reached: look at the server, redisHost and the network"
        )
    return found


def code_of(error: Exception) -> str:
    """The first word of an answer that is an error, such as `WRONGTYPE`, also where it comes from within a script."""
    text = str(error)
    known = next((code for part, code in _CODES.items() if part in text), "")
    if known:
        return known
    inner = _IN_SCRIPT.search(text)
    if inner:
        return inner[1]
    given = getattr(error, "status_code", None)
    if isinstance(given, str):
        return given
    first = text.partition(" ")[0]
    return first if first.isupper() else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
