"""The settings that all Redis components share."""

from __future__ import annotations

import pytest

from dapr_shared.components.redis.settings import Address, RedisSettings
from dapr_shared.components.redis.state import RedisStateSettings
from dapr_shared.contracts.settings import SettingError, decode_settings


def settings(**metadata: str) -> RedisSettings:
    return decode_settings(RedisSettings, {"redisHost": "h", **metadata})


@pytest.mark.parametrize(
    ("metadata", "addresses"),
    [
        ({"redisHost": "h"}, [("h", 6379)]),
        ({"redisHost": "h:1"}, [("h", 1)]),
        ({"redisHost": "h", "redisPort": "2"}, [("h", 2)]),
        ({"redisHost": "h:2", "redisPort": "2"}, [("h", 2)]),
        ({"redisHost": "::1"}, [("::1", 6379)]),
        ({"redisHost": "[::1]:3"}, [("::1", 3)]),
        ({"redisHost": "[::1]"}, [("::1", 6379)]),
        ({"redisHost": "a, b:1", "redisType": "cluster", "redisPort": "0"}, [("a", 6379), ("b", 1)]),
    ],
)
def test_addresses(metadata, addresses):
    """Hosts are split from their ports; the port of those that have none is redisPort, else 6379."""
    assert [tuple(address) for address in settings(**metadata).addresses] == addresses
    assert str(Address("::1", 1)) == "[::1]:1"


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"redisHost": ""}, "redisHost"),
        ({"redisHost": "h:x"}, "redisHost"),
        ({"redisHost": "h:0"}, "redisHost"),
        ({"redisHost": "h:70000"}, "redisHost"),
        ({"redisHost": "[::1"}, "redisHost"),
        ({"redisHost": "a,b"}, "redisHost"),
        ({"redisHost": "h:1", "redisPort": "2"}, "redisPort"),
        ({"failover": "true"}, "sentinelMasterName"),
        ({"failover": "true", "sentinelMasterName": "m", "redisType": "cluster"}, "failover"),
        ({"redisType": "cluster", "redisDB": "1"}, "redisDB"),
        ({"redisType": "ring"}, "redisType"),
        ({"clientCert": "pem"}, "clientKey"),
        ({"useEntraID": "true"}, "useEntraID"),
        ({"useAzureAD": "true"}, "useAzureAD"),
        ({"useOIDC": "true"}, "useOIDC"),
        ({"redisMaxRetries": "-2"}, "redisMaxRetries"),
        ({"dialTimeout": "soon"}, "dialTimeout"),
    ],
)
def test_wrong_settings(metadata, field):
    """What cannot work is an error that names the field."""
    with pytest.raises(SettingError) as caught:
        settings(**metadata)
    assert caught.value.field.lower() == field.lower().replace("useazuread", "useentraid")


def test_units():
    """A bare number of a time means milliseconds, as in daprd; other texts are durations."""
    given = settings(readTimeout="1500", dialTimeout="2s", redisMaxRetryInterval="-1")
    assert (given.answer_timeout, given.dial_timeout, given.retry_delay(3)) == (1.5, 2.0, 0.0)
    assert settings(readTimeout="-1").answer_timeout is None
    assert settings().answer_timeout == 3.0
    assert settings(poolTimeout="250").turn_timeout == 0.25
    assert settings().turn_timeout == 4.0


def test_retries():
    """Retries are daprd's: their number, and a delay that doubles up to a maximum; older names count too."""
    assert [settings(redisMaxRetries=n).retries for n in ("-1", "0", "5")] == [0, 3, 5]
    assert settings(maxRetries="7").retries == 7
    assert [settings().retry_delay(n) for n in (0, 1, 10)] == [0.008, 0.016, 0.512]
    assert settings(maxRetryBackoff="1000000").retry_delay(0) == 0.001
    assert settings(maxRetryBackoff="1000000", redisMinRetryInterval="4").retry_delay(0) == 0.004
    assert decode_settings(RedisStateSettings, {"redisHost": "h"}).retry_delay(0) == 0.512


def test_location_names_the_place():
    """Two components at one server and database name one place, however they write it, and no secret."""
    one = settings(redisHost="LOCALHOST", redisPassword="secret")
    assert one.location == settings(redisHost="127.0.0.1:6379").location
    assert one.location != settings(redisHost="127.0.0.1", redisDB="1").location
    assert "secret" not in one.location
    assert "secret" not in repr(one)
