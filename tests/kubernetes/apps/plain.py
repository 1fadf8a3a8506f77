"""A client without an SDK: a token of its service account, read from a file for each call, sent as `dapr-api-token`.

    python3 plain.py URL FILE…      `-` is standard input

Prints a list of [status, body] in JSON, one for each file.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main(url: str, *files: str) -> None:
    """Call once with each token."""
    print(json.dumps([_call(url, sys.stdin.read() if file == "-" else Path(file).read_text()) for file in files]))


def _call(url: str, token: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"dapr-api-token": token.strip()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


if __name__ == "__main__":
    main(*sys.argv[1:])
