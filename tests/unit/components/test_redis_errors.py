"""What Redis answers becomes an error that says what to do, and shows nothing that is secret."""

from __future__ import annotations

import ssl

import pytest
from redis import exceptions as library

from dapr_shared.components.redis.errors import FullError, NoGroupError, ReplyError, WrongTypeError, translate
from dapr_shared.components.redis.settings import RedisSettings
from dapr_shared.contracts.component import BackendError, BackendUnavailableError

SETTINGS = RedisSettings(redis_host="h", redis_db=3, redis_password="the-secret")
IN_OLD_SCRIPT = "Error running script (call to f_0): @user_script:14: @user_script: 14: -{}"


@pytest.mark.parametrize(
    ("error", "kind", "part"),
    [
        (library.ResponseError("WRONGTYPE Operation against a key"), WrongTypeError, "WRONGTYPE"),
        (library.ResponseError("WRONGPASS invalid"), BackendError, "redisPassword"),
        (library.AuthenticationError("invalid username-password pair"), BackendError, "redisPassword"),
        (library.ResponseError("NOAUTH Authentication required."), BackendError, "redisPassword"),
        (library.NoPermissionError("this user has no permissions to run 'x'"), BackendError, "ACL"),
        (library.ResponseError("ACL failure in script: User r has no permissions to run 'hset'"), BackendError, "ACL"),
        (library.OutOfMemoryError("command not allowed", status_code="OOM"), FullError, "maxmemory"),
        (library.ResponseError(IN_OLD_SCRIPT.format("OOM command not allowed")), FullError, "maxmemory"),
        (library.ReadOnlyError("x", status_code="READONLY"), BackendUnavailableError, "primary"),
        (library.ResponseError(IN_OLD_SCRIPT.format("READONLY You can't write")), BackendUnavailableError, "primary"),
        (library.BusyLoadingError("x", status_code="LOADING"), BackendUnavailableError, "loading"),
        (library.ResponseError("MISCONF Redis is configured"), BackendError, "disk"),
        (library.ResponseError("NOGROUP No such key"), NoGroupError, "group"),
        (library.ResponseError("ERR no such key"), NoGroupError, "group"),
        (library.ResponseError("ERR DB index is out of range"), BackendError, "redisDB"),
        (library.ConnectionError("max number of clients reached"), BackendUnavailableError, "maxclients"),
        (library.RedisClusterException("all keys must map to the same key slot"), BackendError, "hash tag"),
        (library.RedisClusterException("cannot connect"), BackendUnavailableError, "redisType"),
        (library.ResponseError("unknown command 'SENTINEL', with args beginning with: 'x'"), BackendError, "sentinel"),
        (library.TimeoutError("x"), BackendUnavailableError, "in time"),
        (TimeoutError(), BackendUnavailableError, "in time"),
        (ConnectionRefusedError(111, "x"), BackendUnavailableError, "redisHost"),
        (library.ConnectionError("x"), BackendUnavailableError, "redisHost"),
        (ssl.SSLError(1, "wrong version number"), BackendError, "enableTLS"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Exception) else None,
)
def test_errors_say_what_to_do(error, kind, part):
    """Each error is of the kind that its caller must know, names the server, and says what to do."""
    found = translate(error, "h:6379", SETTINGS)
    assert type(found) is kind
    assert part in str(found)
    assert "h:6379" in str(found)
    assert "the-secret" not in str(found)


def test_arguments_are_not_shown():
    """Redis quotes the arguments of a command that it does not know; they are not passed on."""
    error = library.ResponseError("unknown command 'X', with args beginning with: 'key' 'private value'")
    found = translate(error, "h:6379", SETTINGS)
    assert isinstance(found, ReplyError)
    assert "private" not in str(found)


def test_the_cause_decides():
    """A certificate that is not accepted is found behind the library's own error."""
    outer = library.ConnectionError("x")
    outer.__cause__ = ssl.SSLCertVerificationError(1, "no")
    assert "certificate" in str(translate(outer, "h:6379", SETTINGS))


def test_an_error_of_ours_stays():
    """What is one of ours already is not changed."""
    error = BackendError("mine")
    assert translate(error, "h:6379", SETTINGS) is error
