"""A port that is taken: said by whom, and what changes it."""

from __future__ import annotations

import errno
import os
import socket
import sys

import pytest

from dapr_shared.runtime.ports import holder_of, port_taken
from tests.support.required import has_ipv6_loopback, need

linux = pytest.mark.skipif(sys.platform != "linux", reason="who holds a port is known on Linux only")


@linux
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_holder_of_a_port(family, host):
    """The process that listens is named with its id; a port that nobody listens on has no holder."""
    need(family is not socket.AF_INET6 or has_ipv6_loopback(), "the loopback address ::1 (IPv6 in the kernel)")
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        port = listener.getsockname()[1]
        assert holder_of(port) is None
        listener.listen()
        found = holder_of(port)
        assert found is not None
        assert f"(process {os.getpid()})" in found
    assert holder_of(port) is None


@linux
def test_a_connection_is_no_holder():
    """A client that happens to use the port is not the one to end."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert holder_of(client.getsockname()[1]) is None


def test_what_the_error_says():
    """Address, reason and the flag that helps, for each way in which binding fails."""
    taken = str(port_taken("127.0.0.1:1", "--dapr-http-port", OSError(errno.EADDRINUSE, "x")))
    assert taken.startswith("127.0.0.1:1 is taken")
    assert "--dapr-http-port" in taken
    assert "above 1023" in str(port_taken("127.0.0.1:1", "--x", OSError(errno.EACCES, "x")))
    assert "no such place" in str(port_taken("unix:/a/b", "--x", OSError(errno.ENOENT, "no such place")))
    assert "unix:/a/b is taken" in str(port_taken("unix:/a/b", "--x", OSError(errno.EADDRINUSE, "x")))


@linux
def test_the_holder_is_in_the_error():
    """The message for a busy port names the process that holds it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert f"process {os.getpid()}" in str(port_taken(address, "--x", OSError(errno.EADDRINUSE, "x")))
