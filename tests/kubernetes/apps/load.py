"""Requests one after another over HTTP, with the standard library: what came of each is counted.

    python3 load.py URL SECONDS [THREADS]

Each thread has one connection and makes a new one when the old one ends, as clients do. Prints one line of JSON: how
many answers of each status, and the errors of requests that got none.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import sys
import threading
import time
import urllib.parse


def main(url: str, seconds: str, threads: str = "2") -> None:
    """Make requests for a time; print the counts."""
    statuses: collections.Counter[int] = collections.Counter()
    errors: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + float(seconds)
    workers = [threading.Thread(target=_work, args=(url, end, statuses, errors)) for _ in range(int(threads))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(json.dumps({"statuses": statuses, "errors": errors}))


def _work(url: str, end: float, statuses: collections.Counter[int], errors: collections.Counter[str]) -> None:
    parts = urllib.parse.urlsplit(url)
    headers = {"dapr-api-token": os.environ.get("DAPR_API_TOKEN", "")}
    connection = None
    while time.monotonic() < end:
        fresh = connection is None
        connection = connection or http.client.HTTPConnection(parts.netloc, timeout=10)
        try:
            connection.request("GET", parts.path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] += 1
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
        with contextlib.suppress(ValueError):
            time.sleep(0.005)


if __name__ == "__main__":
    main(*sys.argv[1:])
