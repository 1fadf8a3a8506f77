"""The command `daprd`: an instance with daprd's flags, defaults and exit codes (reference daprd-flags §1 and §2)."""

from __future__ import annotations

import http.client
import os
import platform
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any

import dapr_shared
from dapr_shared.cli.flags import ParsedFlags, UsageError, help_text, parse
from dapr_shared.cli.problem import USAGE
from dapr_shared.observability.log_safety import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

ON_LOOPBACK: dict[str, Any] = {
    "dapr_listen_addresses": ("127.0.0.1",),
    "dapr_internal_grpc_listen_address": "127.0.0.1",
    "metrics_listen_address": "127.0.0.1",
}
"""What `dapr-shared run` has in place of daprd's defaults (design §5.19)."""
WAIT_SECONDS = 60.0
WAIT_INTERVAL = 0.1


def main(words: Sequence[str] | None = None) -> int:
    """Run daprd; the exit code is 0, 1 (it failed) or 2 (wrong words)."""
    command = "daprd"
    try:
        parsed = parse(list(sys.argv[1:] if words is None else words))
    except UsageError as error:
        return wrong_words(command, error)
    done = switches(command, parsed)
    return run_instance(command, parsed, embedded=False) if done is None else done


def wrong_words(command: str, problem: object) -> int:
    """Say in one line what is wrong with the words, and where it is written which are right; the exit code."""
    print(f"{command}: {one_line(str(problem))}; `{command} --help` says what is taken", file=sys.stderr)
    return USAGE


def run_instance(command: str, parsed: ParsedFlags, *, embedded: bool) -> int:
    """Start an instance from flags.

    `embedded`: as `dapr-shared run` does it, on loopback and with a state store of its own when no resources are
    given (design §5.19).
    """
    defaults: dict[str, Any] = ON_LOOPBACK if embedded else {}
    # Before gRPC is loaded: its own lines on standard error are no log of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from dapr_shared.runtime.lifecycle import run  # noqa: PLC0415 - --version and --help need none of it

    return run(parsed.settings(**defaults), command=command, embedded=embedded, without_effect=parsed.without_effect)


def switches(command: str, parsed: ParsedFlags) -> int | None:
    """Do what a flag such as `--version` asks for in place of running; the exit code, `None`: there is no such flag."""
    if "help" in parsed.switches:
        print(help_text(command))
        return 0
    if "version" in parsed.switches:
        print(dapr_shared.__version__)
        return 0
    if "build-info" in parsed.switches:
        print(f"Version: {dapr_shared.__version__}")
        print("Git Commit: none (a Python package)")
        print(f"Git Version: python-{platform.python_version()}")
        return 0
    if "wait" in parsed.switches:
        settings = parsed.settings()
        return wait(settings.dapr_http_port, tls=bool(settings.tls_cert))
    return None


def wait(port: int, *, tls: bool = False) -> int:
    """Poll the outbound health until it is 204; 0 also when it never is, as daprd does."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if tls:  # our own port on this machine: nothing secret is sent, so its certificate is not looked at
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = http.client.HTTPSConnection("localhost", port, timeout=1, context=context)
        else:
            connection = http.client.HTTPConnection("localhost", port, timeout=1)
        try:
            connection.request("GET", "/v1.0/healthz/outbound")
            if connection.getresponse().status == http.HTTPStatus.NO_CONTENT:
                return 0
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(WAIT_INTERVAL)
    return 0
