"""Requests one after another over HTTP, with the standard library: what came of each is counted.

    python3 load.py URL [SECONDS]

Without SECONDS they go on until standard input is closed; `begun` is printed when each of the two connections has had
an answer. Each makes a new connection when the old one ends, as clients do. Prints one line of JSON at the end: how many
answers of each status, the errors of requests that got none, and the middle time of an answer in milliseconds.
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

THREADS = 2
ended = threading.Event()


class Counts:
    """What came of the requests of all threads."""

    def __init__(self) -> None:
        self.statuses: collections.Counter[int] = collections.Counter()
        self.errors: collections.Counter[str] = collections.Counter()
        self.times: list[float] = []


def main(url: str, seconds: str = "") -> None:
    """Make requests; print the counts."""
    counts = Counts()
    begun = threading.Barrier(THREADS + 1)
    workers = [threading.Thread(target=_work, args=(url, counts, begun)) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    begun.wait()
    print("begun", flush=True)
    if seconds:
        ended.wait(float(seconds))
    else:
        sys.stdin.read()
    ended.set()
    for worker in workers:
        worker.join()
    middle = statistics.median(counts.times or [0])
    print(json.dumps({"statuses": counts.statuses, "errors": counts.errors, "median": middle}))


def _work(url: str, counts: Counts, begun: threading.Barrier) -> None:
    parts = urllib.parse.urlsplit(url)
    headers = {"dapr-api-token": os.environ.get("DAPR_API_TOKEN", "")}
    connection = None
    first = True
    while not ended.is_set():
        fresh = connection is None
        connection = connection or http.client.HTTPConnection(parts.netloc, timeout=10)
        began = time.perf_counter()
        try:
            connection.request("GET", parts.path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            counts.statuses[answer.status] += 1
            counts.times.append((time.perf_counter() - began) * 1000)
            if answer.will_close:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            connection = None
            # An idle connection may be closed at any time, which HTTP clients meet by a second try on a new one; a
            # request that fails on a new connection is lost.
            if fresh or not isinstance(error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)):
                counts.errors[repr(error)] += 1
        if first:
            first = False
            begun.wait()
        ended.wait(0.005)


if __name__ == "__main__":
    main(*sys.argv[1:])
