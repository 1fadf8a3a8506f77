"""The App resource."""

import hashlib
from pathlib import Path

import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.resources.loader import examine_object
from dapr_shared.resources.model import (
    App,
    AppChannel,
    AppSecrets,
    CertificateName,
    ChannelProtocol,
    ChannelTls,
    HealthCheck,
    Listeners,
    MetadataItem,
    SecretKeyRef,
    SecretScope,
    TokenSource,
)
from dapr_shared.resources.origin import Origin
from tests.support.resource_files import APP_HEAD, errors_of, load_text

HASH = "0123456789ABCDEFabcdef" + "0" * 42

FULL = f"""
apiVersion: shared.dapr.io/v1alpha1
kind: App
metadata: {{name: orders, namespace: shop, labels: {{a: b}}}}
spec:
  appId: orders-api
  channel:
    protocol: https
    address: localhost
    port: 8000
    maxConcurrency: 100
    tls: {{caFile: ca.pem, certFile: /etc/cert.pem, keyFile: keys/key.pem, serverName: orders}}
    healthCheck: {{enabled: true, path: /health, intervalSeconds: 2, timeoutMs: 250, threshold: 4}}
    apiToken: {{secretKeyRef: {{name: orders, key: app-token}}}}
  tokens:
    - sha256: {HASH}
    - secretKeyRef: {{name: orders}}
    - envRef: ORDERS_TOKEN
  certificates:
    - spiffeId: spiffe://example.org/ns/shop/sa/orders
    - dnsName: Orders.Shop.internal
    - sha256: "{":".join([HASH[:2]] * 32)}"
  listeners: {{httpPort: 3601, grpcPort: 50011, unixSocket: run/orders.sock}}
  secrets: {{scopes: [{{storeName: local, defaultAccess: deny, allowedSecrets: [a, b], deniedSecrets: []}}]}}
  configuration: orders-config
  logLevel: debug
  apiLogging: true
auth: {{secretStore: local}}
"""


def test_every_field_of_an_app_is_read(tmp_path: Path) -> None:
    """A complete App comes back with every field, file paths relative to the file's folder."""
    (app,) = load_text(tmp_path, FULL).apps
    assert app == App(
        name="orders",
        namespace="shop",
        app_id="orders-api",
        channel=AppChannel(
            protocol=ChannelProtocol.HTTPS,
            address="localhost",
            port=8000,
            max_concurrency=100,
            tls=ChannelTls(
                ca_file=f"{tmp_path}/ca.pem",
                cert_file="/etc/cert.pem",
                key_file=f"{tmp_path}/keys/key.pem",
                server_name="orders",
            ),
            health_check=HealthCheck(enabled=True, path="/health", interval=2.0, timeout=0.25, threshold=4),
            api_token=MetadataItem(name="apiToken", secret_key_ref=SecretKeyRef(name="orders", key="app-token")),
        ),
        tokens=(
            TokenSource(sha256=HASH.lower()),
            TokenSource(secret_key_ref=SecretKeyRef(name="orders")),
            TokenSource(env_ref="ORDERS_TOKEN"),
        ),
        certificates=(
            CertificateName(spiffe_id="spiffe://example.org/ns/shop/sa/orders"),
            CertificateName(dns_name="orders.shop.internal"),
            CertificateName(sha256=HASH[:2] * 32),
        ),
        listeners=Listeners(http_port=3601, grpc_port=50011, unix_socket=f"{tmp_path}/run/orders.sock"),
        secrets=AppSecrets(
            scopes=(SecretScope(store_name="local", default_allow=False, allowed_secrets=("a", "b")),),
        ),
        configuration="orders-config",
        log_level="debug",
        api_logging=True,
        secret_store="local",
        origin=Origin(f"{tmp_path}/res.yaml", 1, 2),
    )
    assert app.ref == AppRef("orders-api", "shop")
    assert app.tokens[1].secret_key_ref is not None
    assert app.tokens[1].secret_key_ref.effective_key == "orders"


def test_an_app_needs_a_name_only(tmp_path: Path) -> None:
    """An App without a spec is legal: it can only be called by nobody and calls by a listener of its own later."""
    (app,) = load_text(tmp_path, APP_HEAD).apps
    assert app == App(name="orders", namespace="default", app_id="orders", origin=app.origin)
    assert app.channel is None


@pytest.mark.parametrize(
    ("url", "channel"),
    [
        ("http://host:8000", AppChannel(protocol=ChannelProtocol.HTTP, address="host", port=8000)),
        ("https://orders.example", AppChannel(protocol=ChannelProtocol.HTTPS, address="orders.example", port=443)),
        ("h2c://10.0.0.1/", AppChannel(protocol=ChannelProtocol.H2C, address="10.0.0.1", port=80)),
        ("grpc://[::1]:50001", AppChannel(protocol=ChannelProtocol.GRPC, address="::1", port=50001)),
        ("grpcs://a-b.c_d:1", AppChannel(protocol=ChannelProtocol.GRPCS, address="a-b.c_d", port=1)),
    ],
)
def test_a_channel_may_be_a_url(tmp_path: Path, url: str, channel: AppChannel) -> None:
    """A URL gives protocol, address and port; the port's default is the scheme's."""
    (app,) = load_text(tmp_path, f"{APP_HEAD}spec: {{channel: {{url: '{url}'}}}}").apps
    assert app.channel == channel


@pytest.mark.parametrize(
    ("spec", "messages"),
    [
        ("{chanel: {}}", ["spec.chanel: unknown field; did you mean channel?"]),
        ("{zzz: 1}", ["spec.zzz: unknown field"]),
        ("[]", ["spec: expected a mapping, found a list"]),
        ("{appId: 5}", ["spec.appId: expected a text, found the number 5; put it in quotes"]),
        (
            "{appId: a.b}",
            [
                (
                    "spec.appId: 'a.b' is not an app id: use 1 to 63 letters, digits, '-' and '_', "
                    "with a letter or digit at both ends"
                )
            ],
        ),
        ("{channel: {}}", ["spec.channel.port: is required: a whole number from 1 to 65535 (or give url)"]),
        (
            "{channel: {port: 65536}}",
            ["spec.channel.port: expected a whole number from 1 to 65535, found the number 65536"],
        ),
        ("{channel: {port: '80'}}", ['spec.channel.port: expected a whole number from 1 to 65535, found "80"']),
        ("{channel: {port: true}}", ["spec.channel.port: expected a whole number from 1 to 65535, found true"]),
        (
            "{channel: {port: 80, protocol: htps}}",
            ['spec.channel.protocol: expected one of http, https, h2c, grpc, grpcs, found "htps"; did you mean https?'],
        ),
        (
            "{channel: {port: 80, address: 'http://x'}}",
            [
                "spec.channel.address: is not a host name or an IP address (a port or a scheme does not belong here)",
            ],
        ),
        (
            "{channel: {port: 80, maxConcurrency: -1}}",
            ["spec.channel.maxConcurrency: expected a whole number from 0 to 2147483647, found the number -1"],
        ),
        (
            "{channel: {port: 80, url: 'http://x'}}",
            ["spec.channel.port: stands beside url, which says it already; leave one of them out"],
        ),
        (
            "{channel: {url: 'http://user:geheim@x'}}",
            [
                (
                    "spec.channel.url: expected a URL such as http://127.0.0.1:8000 (http, https, h2c, grpc or grpcs), "
                    "found more than scheme, host and port"
                )
            ],
        ),
        (
            "{channel: {url: 'ftp://x'}}",
            [
                (
                    "spec.channel.url: expected a URL such as http://127.0.0.1:8000 (http, https, h2c, grpc or grpcs), "
                    "found another scheme or none"
                )
            ],
        ),
        (
            "{channel: {url: 'http://[::1'}}",
            [
                (
                    "spec.channel.url: expected a URL such as http://127.0.0.1:8000 (http, https, h2c, grpc or grpcs), "
                    "found a text that is no URL"
                )
            ],
        ),
        (
            "{channel: {port: 80, tls: {}}}",
            ["spec.channel.tls: is for the protocols https and grpcs; this channel's is http"],
        ),
        (
            "{channel: {port: 80, protocol: grpcs, tls: {certFile: x}}}",
            ["spec.channel.tls: certFile and keyFile belong together: give both or none"],
        ),
        (
            "{channel: {port: 80, healthCheck: {path: x, intervalSeconds: 0}}}",
            [
                "spec.channel.healthCheck.intervalSeconds: expected a number above 0, at most 86400, found the number 0",
                "spec.channel.healthCheck.path: does not begin with '/'",
            ],
        ),
        (
            "{channel: {port: 80, healthCheck: {intervalSeconds: 1, timeoutMs: 2000}}}",
            ["spec.channel.healthCheck.timeoutMs: is longer than intervalSeconds"],
        ),
        (
            "{channel: {port: 80, apiToken: geheim}}",
            [
                "spec.channel.apiToken: expected a mapping, found a text",
            ],
        ),
        ("{tokens: {}}", ["spec.tokens: expected a list, found a mapping"]),
        ("{tokens: [geheim]}", ["spec.tokens[0]: expected a mapping, found a text"]),
        (
            "{tokens: [{sha256: geheim}]}",
            ["spec.tokens[0].sha256: expected 64 hexadecimal digits, found a text of 6 characters (not shown)"],
        ),
        (
            "{tokens: [{sha256: 12345}]}",
            [
                "spec.tokens[0].sha256: expected a text, found a number; put it in quotes",
            ],
        ),
        (
            f"{{tokens: [{{sha256: {hashlib.sha256().hexdigest()}}}]}}",
            ["spec.tokens[0].sha256: is the hash of an empty text, which is no token"],
        ),
        ("{tokens: [{envRef: ''}]}", ["spec.tokens[0].envRef: is required: a text that is not empty"]),
        (
            "{tokens: [{envRef: A, secretKeyRef: {name: b}}]}",
            ["spec.tokens[0]: expected exactly one of sha256, secretKeyRef, envRef, found secretKeyRef and envRef"],
        ),
        (
            "{tokens: [{secretKeyRef: {}}]}",
            ["spec.tokens[0].secretKeyRef.name: is required: a text"],
        ),
        (
            "{listeners: {htpPort: 1, grpcPort: 0}}",
            [
                "spec.listeners.grpcPort: expected a whole number from 1 to 65535, found the number 0",
                "spec.listeners.htpPort: unknown field; did you mean httpPort?",
            ],
        ),
        (
            "{listeners: {httpPort: 80, grpcPort: 80}}",
            ["spec.listeners.grpcPort: the port 80 is used twice, also as spec.listeners.httpPort"],
        ),
        (
            f"{{listeners: {{unixSocket: /{'x' * 107}}}}}",
            ["spec.listeners.unixSocket: is a path of more than 107 bytes; sockets cannot have it"],
        ),
        (
            "{secrets: {scopes: [{defaultAccess: no}]}}",
            [
                "spec.secrets.scopes[0].storeName: is required: a text",
                "spec.secrets.scopes[0].defaultAccess: expected a text, found no, which means false in YAML; put it in quotes",
            ],
        ),
        (
            "{secrets: {scopes: [{storeName: a}, {storeName: a}]}}",
            ["spec.secrets.scopes[1].storeName: the store a has a scope already"],
        ),
        (
            "{secrets: {scopes: [{storeName: a, allowedSecrets: [1, [x]]}]}}",
            [
                "spec.secrets.scopes[0].allowedSecrets[0]: expected a text, found the number 1",
                "spec.secrets.scopes[0].allowedSecrets[1]: expected a text, found a list",
            ],
        ),
        ("{appId: a, appId: b}", ["spec.appId: is given twice in one mapping"]),
    ],
)
def test_what_is_wrong_in_an_app_is_said_exactly(tmp_path: Path, spec: str, messages: list[str]) -> None:
    """Each mistake in an App has its message, with file, document, line and field, and all come at once."""
    found = errors_of(tmp_path, f"{APP_HEAD}spec: {spec}\n")
    start = "res.yaml, document 1, line "
    assert all(message.startswith(start) for message in found)
    assert [message.removeprefix(start).split(": ", 1)[1] for message in found] == messages
    assert not any("geheim" in message for message in found)


def test_lines_are_those_of_the_wrong_fields(tmp_path: Path) -> None:
    """An error names the line of its field in the file, also in a later document."""
    text = (
        f"{APP_HEAD}---\n{APP_HEAD.replace('orders', 'b')}spec:\n  channel:\n    address: x\n    prot: 80\nextra: 1\n"
    )
    assert errors_of(tmp_path, text) == [
        "res.yaml, document 2, line 9: spec.channel.port: is required: a whole number from 1 to 65535 (or give url)",
        "res.yaml, document 2, line 11: spec.channel.prot: unknown field; did you mean port?",
        "res.yaml, document 2, line 12: extra: unknown field",
    ]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("{}", "metadata.name: is required: a text"),
        ("{name: ''}", "metadata.name: is required: a text that is not empty"),
        ("{name: a, namspace: b}", "metadata.namspace: unknown field; did you mean namespace?"),
        (
            "{name: a, namespace: B_}",
            "metadata.namespace: is not a namespace: 1 to 63 lower-case letters, digits and '-', not '-' at an end",
        ),
        (
            "{name: a b}",
            (
                "metadata.name: 'a b' is not an app id: use 1 to 63 letters, digits, '-' and '_', "
                "with a letter or digit at both ends"
            ),
        ),
    ],
)
def test_what_is_wrong_with_the_name_is_said(tmp_path: Path, metadata: str, message: str) -> None:
    """Name and namespace of an App are checked; the name is the app id where none is given."""
    text = f"apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {metadata}\n"
    assert message in [found.split(": ", 1)[1] for found in errors_of(tmp_path, text)]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            "apiVersion: dapr.io/v1alpha1\nkind: App",
            'apiVersion: expected shared.dapr.io/v1alpha1 for the kind App, found "dapr.io/v1alpha1"',
        ),
        (
            "apiVersion: shared.dapr.io/v1\nkind: App",
            'apiVersion: expected shared.dapr.io/v1alpha1 for the kind App, found "shared.dapr.io/v1"',
        ),
        (
            "apiVersion: shared.dapr.io/v1alpha1\nkind: Apps",
            'kind: "Apps" of "shared.dapr.io/v1alpha1" is not a kind that is read here; did you mean App?',
        ),
        ("apiVersion: shared.dapr.io/v1alpha1", "kind: is required: a text"),
    ],
)
def test_a_wrong_head_of_an_app_is_an_error(tmp_path: Path, head: str, message: str) -> None:
    """A resource of our own group is never skipped silently."""
    assert errors_of(tmp_path, head + "\nmetadata: {name: a}\n") == [f"res.yaml, document 1, line 1: {message}"]


@pytest.mark.parametrize(
    ("certificate", "problem"),
    [
        ("{spiffeId: 'https://example.org/x'}", "is not a SPIFFE id"),
        ("{spiffeId: 'spiffe://example.org'}", "is not a SPIFFE id"),
        ("{dnsName: '*.shop.internal'}", "is not a host name"),
        ("{sha256: abc}", "64 hexadecimal digits"),
        ("{dnsName: a, sha256: b}", "expected exactly one of spiffeId, dnsName, sha256"),
        ("{commonName: orders}", "expected exactly one of spiffeId, dnsName, sha256, found none"),
    ],
)
def test_a_wrong_certificate_is_named(tmp_path: Path, certificate: str, problem: str) -> None:
    """What names no certificate of one app is an error that says which field and why."""
    text = APP_HEAD + f"spec: {{certificates: [{certificate}]}}\n"
    (found, *_) = errors_of(tmp_path, text)
    assert problem in str(found)
    assert "certificates" in str(found)


@pytest.mark.parametrize(
    ("written", "read"), [("orders", "shop:orders"), ("team:orders.v2", "team:orders.v2"), ("shop:x", "shop:x")]
)
def test_a_service_account_has_a_namespace(written: str, read: str) -> None:
    """A name alone is a service account of the app's own namespace."""
    data = {**_CLUSTER_APP, "spec": {"serviceAccount": written}}
    (found,) = examine_object(data, source="App shop/orders").resources.apps
    assert found.service_account == read


@pytest.mark.parametrize("written", ["", "a:b:c", "UPPER", "a/b", ":x"])
def test_a_wrong_service_account_is_named(written: str) -> None:
    """What is no name of a service account is refused, and the object of the cluster is named."""
    (error,) = examine_object({**_CLUSTER_APP, "spec": {"serviceAccount": written}}, source="App shop/orders").errors
    assert str(error).startswith("App shop/orders: spec.serviceAccount: ")


_CLUSTER_APP = {
    "apiVersion": "shared.dapr.io/v1alpha1",
    "kind": "App",
    "metadata": {"name": "orders", "namespace": "shop", "uid": "1", "managedFields": []},
    "status": {"ready": True},
}
