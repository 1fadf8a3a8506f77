"""TLS on the front doors of the real process: start, renewal, what stays plain, and mistakes of an operator."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import tempfile
import threading
import time

import grpc
import pytest

from tests.support.calls import ask
from tests.support.instance import StartError, app, free_ports, run_to_end, running, start, token_of
from tests.support.required import need_command
from tests.support.tls_calls import get, grpc_metadata, served_serial
from tests.support.tls_certificates import Authority

AUTH = {"dapr-api-token": token_of("orders")}


def _until(condition, what):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_http_and_grpc_speak_tls_and_the_rest_is_plain(tmp_path):
    """Both APIs speak TLS with the given certificate; metrics, the public port and an app's own listeners are plain."""
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("server", server=True)
    own_http, own_grpc = free_ports(2)
    orders = app(
        "orders", listeners={"httpPort": own_http, "grpcPort": own_grpc}, certificates=[{"dnsName": "orders.test"}]
    )
    with running(tmp_path / "instance", *pair.flags(), resources=[orders]) as instance:
        assert get(instance.http_port, "/v1.0/metadata", authority.client(), AUTH)[0] == 200
        assert grpc_metadata(instance.grpc_port, authority.file, metadata=AUTH) == (grpc.StatusCode.OK, "orders")
        assert get(instance.http_port, "/v1.0/metadata", authority.client())[0] == 401
        assert ask(f"127.0.0.1:{own_http}", "GET", "/v1.0/metadata").status == 200
        assert ask(instance.public, "GET", "/v1.0/healthz").status == 204
        with pytest.raises(ssl.SSLError):
            get(own_http, "/v1.0/metadata", authority.client())
        instance.wait_for_line(
            "a client spoke TLS to a port without TLS: it should use http://, or give this instance --tls-cert"
        )
        instance.wait_for_line("setting without effect", setting="spec.certificates")
        protocols = {line["protocol"] for line in instance.log() if line["msg"] == "listening"}
        assert protocols >= {"https", "grpcs", "http", "grpc"}
        code, text = run_to_end(
            tmp_path, "--wait", *pair.flags(), f"--dapr-http-port={instance.http_port}", entry="daprd"
        )
        assert (code, text) == (0, "")


def test_doctor_sees_who_may_read_the_key(tmp_path):
    """A `--tls-key` that others can read is a warning with the command that closes it; one of the user alone is none."""
    pair = Authority(tmp_path / "ca").issue("server", server=True)
    with (
        tempfile.TemporaryDirectory(prefix="ds-") as data,  # a socket's path has at most 107 bytes
        running(tmp_path / "i", *pair.flags(), f"--data-dir={data}", resources=[app("orders")]),
    ):
        for mode, said in ((0o644, True), (0o640, True), (0o600, False)):
            pair.key.chmod(mode)
            _, text = run_to_end(tmp_path, "doctor", "--data-dir", data)
            assert (f"the key file {pair.key} has mode {mode:o}" in text) is said
            assert (f"chmod 600 {pair.key}" in text) is said


def test_curl_is_served(tmp_path):
    """Curl with the authority's certificate, by HTTP/1.1 whatever it would rather have."""
    curl = need_command("curl", "curl")
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("server", server=True)
    import subprocess

    with running(tmp_path / "instance", *pair.flags(), resources=[app("orders")]) as instance:
        done = subprocess.run(
            [curl, "--silent", "--show-error", "--http2", "--cacert", authority.file, "-H",
             f"dapr-api-token: {token_of('orders')}", f"https://localhost:{instance.http_port}/v1.0/metadata"],
            capture_output=True, check=True, timeout=20,
        )  # fmt: skip
        assert b'"id":"orders"' in done.stdout


@pytest.mark.parametrize("way", ["written", "symlinks"])
def test_a_new_certificate_takes_over_without_a_dropped_request(tmp_path, way):
    """New connections get the new certificate, over HTTP and gRPC; requests that run meanwhile all succeed.

    Files that are written anew, and a folder's link that is set to another folder, as a ConfigMap or Secret does it.
    """
    authority = Authority(tmp_path / "ca")
    first = authority.issue("first", server=True)
    second = authority.issue("second", server=True)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for pair, name in ((first, "..one"), (second, "..two")):
        folder = mounted / name
        folder.mkdir()
        shutil.copy(pair.cert, folder / "tls.crt")
        shutil.copy(pair.key, folder / "tls.key")
    if way == "symlinks":
        (mounted / "..data").symlink_to("..one")
        for name in ("tls.crt", "tls.key"):
            (mounted / name).symlink_to(f"..data/{name}")
    else:
        for name in ("tls.crt", "tls.key"):
            shutil.copy(mounted / "..one" / name, mounted / name)
    flags = [f"--tls-cert={mounted / 'tls.crt'}", f"--tls-key={mounted / 'tls.key'}"]
    with running(tmp_path / "instance", *flags, resources=[app("orders")]) as instance:
        context = authority.client()
        before = served_serial(instance.http_port, context)
        kept = http.client.HTTPSConnection("localhost", instance.http_port, timeout=10, context=context)
        kept.connect()
        old_socket = kept.sock
        stop, results = threading.Event(), []

        def work():
            while not stop.is_set():
                results.append(get(instance.http_port, "/v1.0/metadata", context, AUTH)[0])
                results.append(grpc_metadata(instance.grpc_port, authority.file, metadata=AUTH)[0])

        worker = threading.Thread(target=work)
        worker.start()
        try:
            if way == "symlinks":
                (mounted / "..tmp").symlink_to("..two")
                (mounted / "..tmp").rename(mounted / "..data")
            else:
                for name in ("tls.crt", "tls.key"):
                    shutil.copy(mounted / "..two" / name, mounted / name)
            _until(lambda: served_serial(instance.http_port, context) != before, "the new certificate is not served")
        finally:
            stop.set()
            worker.join()
        assert set(results) <= {200, grpc.StatusCode.OK}
        new = served_serial(instance.http_port, context)
        assert ssl.get_server_certificate(("localhost", instance.grpc_port), ca_certs=str(authority.file)) == (
            second.cert.read_text()
        )
        assert new != before
        kept.request("GET", "/v1.0/metadata", headers=AUTH)
        assert kept.getresponse().status == 200
        assert kept.sock is old_socket, "the connection from before was kept"
        kept.close()


def test_wrong_new_files_keep_the_old_and_say_why(tmp_path):
    """A key of another certificate, an empty file, an encrypted key: the old certificate is served, the log says why."""
    authority = Authority(tmp_path / "ca")
    pair, other = authority.issue("server", server=True), authority.issue("other", server=True)
    good_cert, good_key = pair.cert.read_bytes(), pair.key.read_bytes()
    with running(tmp_path / "instance", *pair.flags(), resources=[app("orders")]) as instance:
        context = authority.client()
        before = served_serial(instance.http_port, context)
        pair.key.write_bytes(other.key.read_bytes())
        line = instance.wait_for_line("TLS certificate not reloaded, the former one stays in force")
        assert "the key does not belong to the certificate" in line["problem"]
        assert "--tls-key" in line["problem"]
        seen = len(instance.log())
        pair.cert.write_bytes(b"")
        line = instance.wait_for_line("TLS certificate not reloaded, the former one stays in force", after=seen)
        assert "not a certificate and a key in PEM form" in line["problem"]
        assert served_serial(instance.http_port, context) == before
        assert grpc_metadata(instance.grpc_port, authority.file, metadata=AUTH)[0] is grpc.StatusCode.OK
        assert good_key.decode() not in instance.output()
        pair.key.write_bytes(other.key.read_bytes())
        pair.cert.write_bytes(other.cert.read_bytes())
        _until(lambda: served_serial(instance.http_port, context) != before, "the good files are not taken")
        assert good_cert != pair.cert.read_bytes()


def test_a_withdrawn_authority_proves_nothing_any_more(tmp_path):
    """When --tls-client-ca changes, certificates of the former authority end at the handshake, over HTTP and gRPC."""
    authority, former = Authority(tmp_path / "ca"), Authority(tmp_path / "former")
    pair = authority.issue("server", server=True)
    uri = "spiffe://test/ns/default/sa/orders"
    old, new = former.issue("old", uris=[uri]), authority.issue("new", uris=[uri])
    bundle = tmp_path / "clients.pem"
    bundle.write_bytes(former.file.read_bytes())
    flags = [*pair.flags(), f"--tls-client-ca={bundle}"]
    with running(
        tmp_path / "instance", *flags, resources=[app("orders", certificates=[{"spiffeId": uri}])]
    ) as instance:
        assert get(instance.http_port, "/v1.0/metadata", authority.client(old))[0] == 200
        assert grpc_metadata(instance.grpc_port, authority.file, old) == (grpc.StatusCode.OK, "orders")
        bundle.write_bytes(authority.file.read_bytes())
        instance.wait_for_line("TLS certificate in force", reloaded=True)
        with pytest.raises(OSError):  # noqa: PT011
            get(instance.http_port, "/v1.0/metadata", authority.client(old))
        assert grpc_metadata(instance.grpc_port, authority.file, old)[0] is grpc.StatusCode.UNAVAILABLE
        assert get(instance.http_port, "/v1.0/metadata", authority.client(new))[0] == 200
        assert grpc_metadata(instance.grpc_port, authority.file, new) == (grpc.StatusCode.OK, "orders")


@pytest.mark.parametrize("engine", ["http2", "aio"])
def test_both_grpc_engines_speak_tls(tmp_path, engine):
    """TLS listeners of gRPC run on the engine that was chosen."""
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("server", server=True)
    flags = (f"--grpc-engine={engine}", *pair.flags())
    with running(tmp_path / "i", *flags, resources=[app("orders")]) as instance:
        assert grpc_metadata(instance.grpc_port, authority.file, metadata=AUTH)[0] is grpc.StatusCode.OK


def test_single_app_mode_over_tls(tmp_path):
    """An instance for one app speaks TLS; a required certificate is asked for, whoever's it is."""
    authority = Authority(tmp_path / "ca")
    pair, client = authority.issue("server", server=True), authority.issue("client")
    flags = [*pair.flags(), f"--tls-client-ca={authority.file}"]
    with running(tmp_path / "i", *flags, app_id="orders") as instance:
        assert get(instance.http_port, "/v1.0/metadata", authority.client(client))[0] == 200
        assert grpc_metadata(instance.grpc_port, authority.file, client) == (grpc.StatusCode.OK, "orders")
        with pytest.raises(OSError):  # noqa: PT011
            get(instance.http_port, "/v1.0/metadata", authority.client())


def test_stopping_does_not_wait_for_a_silent_handshake(tmp_path):
    """A connection that never finishes its handshake does not keep the process from its end."""
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("server", server=True)
    with (
        running(tmp_path / "i", *pair.flags(), app_id="orders") as instance,
        socket.create_connection(("127.0.0.1", instance.http_port), 5) as silent,
    ):
        silent.sendall(b"\x16\x03")
        started = time.monotonic()
        assert instance.stop() == 0
        assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tls-cert=CERT"], "--tls-cert and --tls-key belong together"),
        (["--tls-client-ca=CA"], "--tls-client-ca needs --tls-cert and --tls-key"),
        (["--tls-cert=CERT", "--tls-key=KEY", "--tls-client-auth=optional"], "--tls-client-auth needs --tls-client-ca"),
        (["--tls-cert=CERT", "--tls-key=OTHER"], "the key does not belong to the certificate"),
        (["--tls-cert=CERT", "--tls-key=ABSENT"], "No such file or directory"),
        (["--tls-cert=EMPTY", "--tls-key=KEY"], "not a certificate and a key in PEM form"),
        (["--tls-cert=CERT", "--tls-key=ENCRYPTED"], "the key is encrypted"),
        (["--tls-cert=CERT", "--tls-key=KEY", "--tls-client-ca=EMPTY"], "holds no certificates in PEM form"),
        (["--tls-cert=CERT", "--tls-key=KEY", "--unix-domain-socket=."], "Unix sockets speak no TLS"),
    ],
)
def test_wrong_files_and_flags_do_not_start(tmp_path, flags, words):
    """Flags that do not belong together and files that do not fit are one clear line, and exit code 2."""
    from cryptography.hazmat.primitives import serialization

    authority = Authority(tmp_path / "ca")
    pair, other = authority.issue("server", server=True), authority.issue("other", server=True)
    (tmp_path / "empty").touch()
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    encrypted = tmp_path / "encrypted"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    files = {"CERT": pair.cert, "KEY": pair.key, "CA": authority.file, "OTHER": other.key, "ABSENT": tmp_path / "no",
             "EMPTY": tmp_path / "empty", "ENCRYPTED": encrypted}  # fmt: skip
    named = [f"{name}={files.get(value, value)}" for name, value in (flag.split("=", 1) for flag in flags)]
    with pytest.raises(StartError) as caught:
        start(tmp_path / "i", *named, app_id="orders")
    assert caught.value.code == 2
    assert words in caught.value.log
    assert "Traceback" not in caught.value.log
