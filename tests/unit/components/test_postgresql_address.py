"""Connection strings and settings of the PostgreSQL components."""

from __future__ import annotations

import ssl

import pytest

from dapr_shared.components.postgresql.address import Tls, parse_address
from dapr_shared.components.postgresql.settings import PostgresStateV1Settings, PostgresStateV2Settings
from dapr_shared.contracts.component import UNKNOWN_LOCATION
from dapr_shared.contracts.settings import SettingError, decode_settings
from tests.support.component_postgresql import make

SECRET = "s3cr%t"


def address(text: str, environment: dict[str, str] | None = None, **overrides: str):
    return parse_address(text, overrides, environment or {})


URL = "postgresql://app:s3cr%25t@db.example:6543/orders?sslmode=verify-full&sslrootcert=/ca.pem&application_name=x%20y"
PAIRS = (
    "host=db.example port = 6543 user='app' password='s3cr%t' dbname=orders sslmode=verify-full sslrootcert=/ca.pem "
    "application_name='x y'"
)


@pytest.mark.parametrize("text", [URL, URL.replace("postgresql", "postgres"), PAIRS, f" {PAIRS} "])
def test_both_forms(text):
    """A URL and pairs say the same."""
    found = address(text)
    assert found.hosts == (("db.example", 6543),)
    assert (found.user, found.password, found.database) == ("app", SECRET, "orders")
    assert found.tls == Tls("verify-full", "/ca.pem")
    assert found.parameters == {"application_name": "x y"}
    assert str(found) == "db.example:6543/orders"


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("postgres://u@a,b:2,[::1]:3/d", (("a", 5432), ("b", 2), ("::1", 3))),
        ("postgres://u@/d?host=/run/pg", (("/run/pg", 5432),)),
        ("postgres://u@%2Frun%2Fpg/d", (("/run/pg", 5432),)),
        ("host=a,b port=1,2 user=u", (("a", 1), ("b", 2))),
        ("host=a,b port=7 user=u", (("a", 7), ("b", 7))),
        ("user=u", (("localhost", 5432),)),
        ("host=a hostaddr=10.0.0.1 user=u", (("10.0.0.1", 5432),)),
    ],
)
def test_hosts(text, hosts):
    """Several hosts, IPv6, directories of sockets; a hostaddr is the host, as in daprd."""
    assert address(text).hosts == hosts


def test_overrides():
    """The single settings win over the connection string, whatever its form."""
    for text in (URL, PAIRS):
        found = address(text, host="other", port="1", user="u", password="p", database="d", sslrootcert="/r")
        assert str(found) == "other:1/d"
        assert (found.user, found.password, found.tls.root_certificate) == ("u", "p", "/r")
    settings = decode_settings(
        PostgresStateV1Settings, {"host": "h", "user": "u", "password": "p", "database": "d", "port": "7"}
    )
    assert str(settings.address()) == "h:7/d"


def test_environment_and_defaults():
    """What nothing names comes from libpq's variables; without them the database is named as the user."""
    found = address("sslmode=disable", {"PGHOST": "e", "PGPORT": "9", "PGUSER": "v", "PGPASSWORD": "w"})
    assert (found.hosts, found.user, found.password, found.database) == ((("e", 9),), "v", "w", "v")


def test_quoted_pairs():
    """Quotes and backslashes are libpq's."""
    found = address(r"user=u password='a b\'c\\d' dbname=x\ y")
    assert (found.password, found.database) == (r"a b'c\d", "x y")


def test_pool_parameters():
    """Daprd's parameters of the pool count; those without a counterpart are not sent to the server."""
    settings = decode_settings(
        PostgresStateV1Settings,
        {"url": "postgres://u@h/d?pool_max_conns=3&pool_max_conn_idle_time=90s&pool_max_conn_lifetime=1h"},
    )
    assert (settings.connections, settings.idle_time, settings.address().parameters) == (3, 90.0, {})
    assert decode_settings(PostgresStateV1Settings, {"url": "user=u", "maxConns": "4"}).connections == 4
    assert decode_settings(PostgresStateV1Settings, {"url": "user=u", "connMaxIdleTime": "5"}).idle_time == 5.0


@pytest.mark.parametrize(
    "text",
    [
        "", "postgres://u:PW@h:x/d", "postgres://u:PW@h:1:2/d", "host=h password='PW", "PW", "host=h user=u sslmode=PW",
        "postgres://u:PW@h/d?PW", "host=a,b port=1,2,3 password=PW", "host=h port=70000 password=PW",
        "service=s password=PW", "host=h password=PW connect_timeout=-1", "host=h password=PW sslcrl=x",
        "host=h password=PW target_session_attrs=x", "host=h password=PW pool_max_conn_idle_time=x",
    ],
)  # fmt: skip
def test_wrong_strings(text):
    """A string that cannot be read is an error of its setting that shows nothing of it."""
    with pytest.raises(SettingError) as caught:
        address(text)
    assert "PW" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({}, "connectionString"),
        ({"tableName": "a;b"}, "tableName"),
        ({"tableName": "a.b.c"}, "tableName"),
        ({"tableName": "x" * 64}, "tableName"),
        ({"metadataTableName": "STATE"}, "metadataTableName"),
        ({"timeout": "10ms"}, "timeout"),
        ({"maxConns": "-1"}, "maxConns"),
        ({"maxConns": "100000"}, "maxConns"),
        ({"useAzureAD": "true"}, "useAzureAD"),
        ({"useAWSIAM": "true"}, "useAWSIAM"),
        ({"queryExecMode": "fast"}, "queryExecMode"),
    ],
)
def test_wrong_settings(metadata, field):
    """A wrong setting is named."""
    given = {"connectionString": "user=u", **metadata} if metadata else {}
    with pytest.raises(SettingError) as caught:
        decode_settings(PostgresStateV1Settings, given)
    assert caught.value.field == field


@pytest.mark.parametrize("prefix", ["a b", "1", 'x"', "a.b.", "a-b"])
def test_wrong_prefix(prefix):
    """A prefix that begins no name of a table is refused."""
    with pytest.raises(SettingError):
        decode_settings(PostgresStateV2Settings, {"connectionString": "user=u", "tablePrefix": prefix})


def test_secrets_are_not_shown():
    """Neither settings nor addresses show the connection string or a password in their text forms."""
    settings = decode_settings(PostgresStateV1Settings, {"connectionString": URL, "password": "other"})
    shown = f"{settings!r} {settings.address()!r} {settings.address()}"
    assert SECRET not in shown
    assert "s3cr" not in shown
    assert "other" not in shown


def test_query_modes():
    """Prepared statements are kept unless a mode says otherwise."""
    kept = {
        mode: decode_settings(PostgresStateV1Settings, {"url": "user=u", "queryExecMode": mode}).keeps_statements
        for mode in ("", "cache_statement", "exec", "simple_protocol")
    }
    assert kept == {"": True, "cache_statement": True, "exec": False, "simple_protocol": False}


@pytest.mark.parametrize(
    ("mode", "verifies", "checks_name"),
    [("require", False, False), ("verify-ca", True, False), ("verify-full", True, True)],
)
def test_tls_modes(mode, verifies, checks_name):
    """`require` encrypts, `verify-ca` checks the certificate, `verify-full` its name too; `require` with a root checks."""
    context = Tls(mode).arguments()["ssl"]
    assert (context.verify_mode == ssl.CERT_REQUIRED, context.check_hostname) == (verifies, checks_name)
    assert Tls("require", "system").arguments()["ssl"].verify_mode == ssl.CERT_REQUIRED


def test_tls_when_it_is_a_wish():
    """The other modes are asyncpg's own, with the client's certificate."""
    assert Tls("disable", certificate="/c").arguments() == {"ssl": "disable"}
    assert Tls("prefer").arguments() == {"ssl": "prefer"}
    assert Tls("prefer", certificate="/c", key="/k").arguments() == {
        "ssl": "prefer",
        "dsn": "postgresql://?sslcert=%2Fc&sslkey=%2Fk",
    }


def test_locations():
    """The place of data is server, database and table, however they are written, and names no user."""

    def location(text: str, version: str = "v1", **more: str) -> str | None:
        return make("state.postgresql", {"connectionString": text, **more}, version).data_location()

    assert location("postgres://a:x@H/d") == location("host=h user=b dbname=d") == "postgresql:h:5432/d#public.state"
    assert location("postgres://a@h/d", tableName='"State"') == location("postgres://a@h/d", tableName="public.state")
    assert location("postgres://a@h/d", tableName="s.t") == "postgresql:h:5432/d#s.t"
    assert location("postgres://a@h/d", "v2", tablePrefix="x_") == "postgresql:h:5432/d#public.x_state"
    assert location("postgres://a@h/d?search_path=s") == UNKNOWN_LOCATION
