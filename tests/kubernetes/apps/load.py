"""Requests one after another over HTTP, with the standard library: what came of each is counted.

    python3 load.py URL SECONDS [THREADS]

Each thread has one connection and makes a new one when the old one ends, as clients do. Prints one line of JSON: how
many answers of each status, the errors of requests that got none, and the middle time of an answer in milliseconds.
"""

from __future__ import annotations

import collections
import http.client
import json
import os
import statistics
import sys
import threading
import time
import urllib.parse


def main(url: str, seconds: str, threads: str = "2") -> None:
    """Make requests for a time; print the counts."""
    statuses: collections.Counter[int] = collections.Counter()
    errors: collections.Counter[str] = collections.Counter()
    times: list[float] = []
    end = time.monotonic() + float(seconds)
    workers = [threading.Thread(target=_work, args=(url, end, statuses, errors, times)) for _ in range(int(threads))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(json.dumps({"statuses": statuses, "errors": errors, "median": statistics.median(times or [0])}))


def _work(
    url: str, end: float, statuses: collections.Counter[int], errors: collections.Counter[str], times: list[float]
) -> None:
    parts = urllib.parse.urlsplit(url)
    headers = {"dapr-api-token": os.environ.get("DAPR_API_TOKEN", "")}
    connection = None
    while time.monotonic() < end:
        fresh = connection is None
        connection = connection or http.client.HTTPConnection(parts.netloc, timeout=10)
        began = time.perf_counter()
        try:
            connection.request("GET", parts.path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] += 1
            times.append((time.perf_counter() - began) * 1000)
            if answer.will_close:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            connection = None
            # An idle connection may be closed at any time, which HTTP clients meet by a second try on a new one; a
            # request that fails on a new connection is lost.
            if fresh or not isinstance(error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)):
                errors[repr(error)] += 1
        time.sleep(0.005)


if __name__ == "__main__":
    main(*sys.argv[1:])
