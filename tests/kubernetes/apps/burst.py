"""Equal requests in a number that is known exactly, each sent in one packet, for tests that count packets.

    python3 burst.py METHOD URL COUNT [BODY]

They go one after another, each over the next of fifty connections, so that nothing is sent together with another
request's. Prints how many answers of each status, in JSON.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import socket
import sys
import urllib.parse

CONNECTIONS = 50


def main(method: str, url: str, count: str, body: str = "") -> None:
    """Make the requests; print the counts."""
    parts = urllib.parse.urlsplit(url)
    lines = [f"{method} {parts.path} HTTP/1.1", f"host: {parts.netloc}"]
    lines += [f"dapr-api-token: {os.environ.get('DAPR_API_TOKEN', '')}"]
    lines += ["content-type: application/json", f"content-length: {len(body)}"] if body else []
    request = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
    statuses: collections.Counter[int] = collections.Counter()
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection((str(parts.hostname), parts.port), timeout=30))
            for _ in range(CONNECTIONS)
        ]
        answers = [stack.enter_context(connection.makefile("rb")) for connection in opened]
        for index in itertools.islice(itertools.cycle(range(CONNECTIONS)), int(count)):
            opened[index].sendall(request)
            statuses[_read(answers[index])] += 1
    print(json.dumps(statuses))


def _read(answers) -> int:
    """The status of an answer, whose body is passed over."""
    status = int(answers.readline().split()[1])
    length, chunked = 0, False
    while line := answers.readline().strip():
        name, _, value = line.lower().partition(b":")
        if name == b"content-length":
            length = int(value)
        chunked = chunked or name == b"transfer-encoding"
    answers.read(length)
    while chunked:
        size = int(answers.readline(), 16)
        answers.read(size + 2)  # with the end of its line
        chunked = size > 0
    return status


if __name__ == "__main__":
    main(*sys.argv[1:])
