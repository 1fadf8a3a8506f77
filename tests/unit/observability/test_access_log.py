"""The API log is Dapr's, and nothing while it is off."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from dapr_shared.core.errors import GrpcCode
from dapr_shared.core.ids import AppRef
from dapr_shared.observability.access_log import AccessLog, AccessLogOptions
from dapr_shared.observability.logs import LogOptions, Logs
from tests.support.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

HTTP = '{"time":"2026-01-01T00:00:00.000000Z","level":"info","type":"log","msg":"HTTP API Called","scope":"dapr.runtime.http-info",'
GRPC = '{"time":"2026-01-01T00:00:00.000000Z","level":"info","type":"log","msg":"gRPC API Called","scope":"dapr.runtime.grpc.api-info",'
HOST = '"instance":"h","ver":"1"'


def written(options: AccessLogOptions, use: Callable[[AccessLog], None]) -> list[str]:
    stream = io.BytesIO()
    with Logs(LogOptions(as_json=True, instance="h", version="1"), stream=stream, clock=FakeClock()) as logs:
        use(AccessLog(options, logs.logger))
    return stream.getvalue().decode().splitlines()


def calls(log: AccessLog) -> None:
    log.http(
        AppRef("shop"),
        "GET",
        "/v1.0/state/cart/a?metadata.x=secret",
        "GetState",
        status=200,
        size=12,
        milliseconds=3.9,
        user_agent="curl/8.1",
    )
    log.http(None, "GET", "/v1.0/healthz", "Healthz", status=204, size=0, milliseconds=0.2)
    log.http(None, "GET", "/v1.0/healthz/outbound?x=1", "Healthz", status=204, size=0, milliseconds=0.2)
    log.grpc(
        AppRef("shop"),
        "/dapr.proto.runtime.v1.Dapr/GetState",
        code=GrpcCode.NOT_FOUND,
        milliseconds=1.2,
        user_agent="grpc-python/1.85",
    )
    log.grpc(None, "/grpc.health.v1.Health/Check", code=GrpcCode.OK, milliseconds=0)


def test_http_and_grpc_lines() -> None:
    """One line for each call with Dapr's fields; the query is left out, what is not known too."""
    assert written(AccessLogOptions(enabled=True), calls) == [
        HTTP + f'"app_id":"shop",{HOST},"method":"GET /v1.0/state/cart/a","code":200,"size":12,"duration":3,"useragent":"curl/8.1"}}',
        HTTP + f'"app_id":"",{HOST},"method":"GET /v1.0/healthz","code":204,"size":0,"duration":0}}',
        HTTP + f'"app_id":"",{HOST},"method":"GET /v1.0/healthz/outbound","code":204,"size":0,"duration":0}}',
        GRPC + f'"app_id":"shop",{HOST},"method":"/dapr.proto.runtime.v1.Dapr/GetState","code":5,"duration":1,"useragent":"grpc-python/1.85"}}',
        GRPC + f'"app_id":"",{HOST},"method":"/grpc.health.v1.Health/Check","code":0,"duration":0}}',
    ]  # fmt: skip


def test_obfuscated_urls_and_no_health_checks() -> None:
    """With obfuscateURLs the endpoint's name stands for the path; with omitHealthChecks health checks are left out."""
    options = AccessLogOptions(enabled=True, obfuscate_urls=True, omit_health_checks=True)
    assert written(options, calls) == [
        HTTP + f'"app_id":"shop",{HOST},"method":"GetState","code":200,"size":12,"duration":3,"useragent":"curl/8.1"}}',
        GRPC + f'"app_id":"shop",{HOST},"method":"/dapr.proto.runtime.v1.Dapr/GetState","code":5,"duration":1,"useragent":"grpc-python/1.85"}}',
    ]  # fmt: skip


def test_only_health_checks_are_omitted() -> None:
    """A path that merely begins like a health check is written."""
    options = AccessLogOptions(enabled=True, omit_health_checks=True)

    def use(log: AccessLog) -> None:
        log.http(None, "GET", "/v1.0/healthzebra", "Invoke", status=404, size=0, milliseconds=0)

    assert len(written(options, use)) == 1


@pytest.mark.parametrize("options", [AccessLogOptions(), AccessLogOptions(obfuscate_urls=True)])
def test_nothing_is_written_while_it_is_off(options: AccessLogOptions) -> None:
    """The API log is off by default."""
    assert written(options, calls) == []


def test_each_app_has_its_own_options() -> None:
    """An app's options decide for its calls, the log's own for those that prove no app; hot code asks one flag."""

    def use(log: AccessLog) -> None:
        assert not log.enabled
        log.replace_apps(
            {
                AppRef("loud"): AccessLogOptions(enabled=True),
                AppRef("loud", "other"): AccessLogOptions(),
                AppRef("discreet"): AccessLogOptions(enabled=True, obfuscate_urls=True),
            }
        )
        assert log.enabled
        for app in (AppRef("loud"), AppRef("loud", "other"), AppRef("discreet"), AppRef("unknown"), None):
            log.http(app, "GET", "/v1.0/state/a/b", "GetState", status=200, size=1, milliseconds=1)

    lines = written(AccessLogOptions(), use)
    assert len(lines) == 2
    assert '"app_id":"loud"' in lines[0]
    assert '"method":"GET /v1.0/state/a/b"' in lines[0]
    assert '"app_id":"discreet"' in lines[1]
    assert '"method":"GetState"' in lines[1]
