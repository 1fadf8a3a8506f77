"""Reading what wrk and h2load print."""

import pytest

from benchmarks.load import MissingToolError, check_tools, frame, lua, parse_h2load, parse_wrk, percentile
from benchmarks.processes import BenchmarkError, parse_pss

WRK = """\
Running 1m test @ http://127.0.0.1:3500/v1.0/state/memory/bench
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.75ms    1.20ms  20.01ms   92.28%
    Req/Sec    19.02k     1.53k   20.91k    80.00%
  Latency Distribution
     50%  812.00us
     75%    1.82ms
     90%    2.50ms
     99%    1.04s
  28402 requests in 1.50s, 4.20MB read
Requests/sec:  18934.66
Transfer/sec:      2.80MB
"""

H2LOAD = """\
starting benchmark...
spawning thread #0: 8 total client(s). 4 total requests
Application protocol: h2c
progress: 100% done

finished in 402.50ms, 9.94 req/s, 19.50KB/s
requests: 4 total, 4 started, 4 done, 4 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 4 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 316B (316) total, 208B (208) headers (space savings 63.89%), 100B (100) data
"""
H2LOAD_LOG = "1795472000000000\t200\t3000\n1795472000000100\t200\t1000\n1795472000000100\t200\t2000\n17\t200\t9000\n"


def test_wrk_figures():
    """The number of requests, the time and both percentiles are read, whatever their unit."""
    load = parse_wrk(WRK)
    assert (load.requests, load.seconds) == (28402, 1.5)
    assert (load.p50_ms, load.p99_ms) == (0.812, 1040.0)
    assert load.rate == pytest.approx(18934.67, abs=0.01)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("  Non-2xx or 3xx responses: 7\n", "7 answers were errors"),
        ("  Socket errors: connect 0, read 3, write 0, timeout 0\n", "socket errors: connect 0, read 3"),
    ],
)
def test_wrk_errors(line, message):
    """One failed request fails the run: it gives no figure."""
    with pytest.raises(BenchmarkError, match=message):
        parse_wrk(WRK.replace("Requests/sec", f"{line}Requests/sec"))


@pytest.mark.parametrize(
    "output",
    ["unable to connect to 127.0.0.1:1 Connection refused\n", WRK.replace("28402", "0"), WRK.replace("99%", "98%")],
)
def test_wrk_without_figures(output):
    """Output without requests or without a percentile is an error, not a zero."""
    with pytest.raises(BenchmarkError):
        parse_wrk(output)


def test_h2load_figures():
    """The number of calls and the time come from the summary, the percentiles from the log of the calls."""
    load = parse_h2load(H2LOAD, H2LOAD_LOG, 25)
    assert (load.requests, load.seconds) == (4, 0.4025)
    assert (load.p50_ms, load.p99_ms) == (2.0, 9.0)


def test_h2load_failed_calls():
    """A call that HTTP/2 failed fails the run."""
    with pytest.raises(BenchmarkError, match="1 of 4 gRPC calls failed"):
        parse_h2load(H2LOAD.replace("4 succeeded", "3 succeeded"), H2LOAD_LOG, 25)


def test_h2load_grpc_errors():
    """GRPC errors, which h2load counts as success, are seen by the bytes that are missing."""
    with pytest.raises(BenchmarkError, match="4 answers have 75 bytes, 100 were expected"):
        parse_h2load(H2LOAD.replace("100B (100) data", "75B (75) data"), H2LOAD_LOG, 25)


@pytest.mark.parametrize(("output", "log"), [("could not connect to server\n", ""), (H2LOAD, "")])
def test_h2load_without_figures(output, log):
    """Output that is no summary, or a log without calls, is an error."""
    with pytest.raises(BenchmarkError):
        parse_h2load(output, log, 0)


def test_frame():
    """A message has a byte for compression and four for its length in front."""
    assert frame(b"hello") == b"\x00\x00\x00\x00\x05hello"


def test_lua_bodies():
    """Every byte of a body is written as an escape: quotes and line ends cannot end the script's string."""
    assert lua("POST", b'"\n') == (
        'wrk.method = "POST"\nwrk.body = "\\034\\010"\nwrk.headers["Content-Type"] = "application/json"\n'
    )
    assert lua("GET", None) == 'wrk.method = "GET"\n'


@pytest.mark.parametrize(("percent", "expected"), [(1, 1), (50, 50), (99, 99), (100, 100)])
def test_percentile(percent, expected):
    """Percentiles are of the nearest rank."""
    assert percentile(range(1, 101), percent) == expected


def test_percentile_of_one():
    """The percentile of one value is that value."""
    assert percentile([7], 50) == 7


def test_missing_tool(monkeypatch):
    """A tool that is not installed is named with its package."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingToolError, match="h2load is not installed: apt-get install nghttp2-client"):
        check_tools(["h2load"])


def test_pss():
    """PSS is the line of its name, not one of its parts."""
    assert parse_pss("00 ---p [rollup]\nRss:    9000 kB\nPss:    1234 kB\nPss_Anon:   5 kB\n") == 1234 * 1024
    with pytest.raises(BenchmarkError):
        parse_pss("Rss: 1 kB\n")
