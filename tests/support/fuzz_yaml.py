"""Resource files that were right until somebody edited them."""

from __future__ import annotations

import copy
from typing import Any

import yaml
from hypothesis import strategies as st

VALID = """
apiVersion: shared.dapr.io/v1alpha1
kind: App
metadata: {name: billing, namespace: default, labels: {a: b}}
spec:
  appId: Billing_1
  channel:
    protocol: http
    address: 127.0.0.1
    port: 9
    maxConcurrency: 5
    healthCheck: {enabled: false, path: /healthz, intervalSeconds: 5, timeoutMs: 500, threshold: 3}
    apiToken: {secretKeyRef: {name: open, key: open}}
  tokens:
    - {sha256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}
    - {secretKeyRef: {name: hidden, key: hidden}}
    - {envRef: PATH}
  listeners: {unixSocket: billing.sock}
  secrets: {scopes: [{storeName: local, defaultAccess: deny, allowedSecrets: [open]}]}
  configuration: billing-config
auth: {secretStore: vault}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: numbers}
spec:
  type: state.sqlite
  version: v1
  ignoreErrors: false
  initTimeout: 5s
  metadata:
    - {name: connectionString, value: numbers.db}
    - {name: tableName, value: state}
    - {name: timeoutInSeconds, value: 20}
    - {name: keyPrefix, value: name}
scopes: [billing]
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: local}
spec:
  type: secretstores.local.env
  version: v1
  metadata: [{name: prefix, value: DEMO_}]
scopes: [Billing_1]
---
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: billing-config}
spec:
  tracing: {samplingRate: "0.5", zipkin: {endpointAddress: "http://127.0.0.1:9411"}}
  secrets: {scopes: [{storeName: local, defaultAccess: allow, deniedSecrets: [x]}]}
  api: {allowed: [{name: state, version: v1, protocol: http}]}
  accessControl:
    defaultAction: deny
    trustDomain: public
    policies:
      - appId: orders
        defaultAction: allow
        trustDomain: public
        namespace: default
        operations: [{name: /op/*, httpVerb: [POST], action: allow}]
  metrics: {enabled: true, http: {increasedCardinality: false}}
---
apiVersion: dapr.io/v1alpha1
kind: HTTPEndpoint
metadata: {name: outside}
spec:
  baseUrl: http://127.0.0.1:9/base
  headers: [{name: x-key, secretKeyRef: {name: open, key: open}}]
auth: {secretStore: vault}
scopes: [Billing_1]
"""
"""One resource of each kind that has an effect; takes effect beside those of `fuzz_instance`."""

_WORDS = (
    None, True, False, -1, 0, 1, 80, 65535, 65536, 2**63, 1.5, float("nan"), "", " ", "x", "stock", "orders", "memory",
    "vault", "local", "default", "other", "hidden", "stock-app-token", "no", "1s", "-5s", "99999999999h", "2026-01-01", "{uuid}",
    "{appID}", "{namespace}", "${HOME}", "a" * 300, "\u00fc", "\U0001f40d", "a||b", "../x", "/", "/dev/null", "http://[", "grpc",
    "h2c", "https", "grpcs", "state.in-memory", "state.redis", "secretstores.local.file", "v9", "App", "Component", "deny",
    "94edc3a10c79049fb13c5b6b6f6fce305cd67d93322fd57aecd8c0c37daf5462", [], {}, [None], {"": 1}, [[]], {"name": "x"},
)  # fmt: skip
_OPERATIONS = ("replace", "replace", "replace", "delete", "rename", "wrap", "repeat", "swap")


def _places(node: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        found.append((node, key))
        _places(value, found)
    return found


@st.composite
def edited(draw: Any) -> str:
    """The valid resources after one to three edits of their structure, in any order."""
    root = [list(yaml.safe_load_all(VALID))]
    for _ in range(draw(st.integers(1, 3))):
        places = _places(root[0], [])
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        _edit(draw, draw(st.sampled_from(_OPERATIONS)), holder, key, places)
        if not root[0]:
            break
    chosen = draw(st.lists(st.integers(0, max(len(root[0]) - 1, 0)), max_size=2))
    documents = [root[0][index] for index in chosen] if chosen and root[0] else root[0]
    return yaml.safe_dump_all(documents, allow_unicode=draw(st.booleans()), sort_keys=False)


def _edit(draw: Any, operation: str, holder: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    if operation == "replace":
        holder[key] = draw(st.sampled_from(_WORDS))
    elif operation == "delete":
        del holder[key]
    elif operation == "rename" and isinstance(holder, dict):
        holder[draw(st.sampled_from([str(key).upper(), f"{key}s", "x", "", "name", "value", "spec"]))] = holder.pop(key)
    elif operation == "wrap":
        holder[key] = [holder[key]]
    elif operation == "repeat" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        other, at = places[draw(st.integers(0, len(places) - 1))]
        holder[key] = copy.deepcopy(other[at])


@st.composite
def damaged(draw: Any) -> bytes:
    """The valid resources as a text with characters lost, added and changed."""
    data = VALID.encode()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        put = draw(
            st.one_of(
                st.sampled_from([b"\n", b"  ", b"\t", b"---\n", b"...\n", b":", b"- ", b"&a ", b"*a", b"!!binary ", b"<<: ",
                                 b"!!python/object:os.system ", b"{", b"[", b"'", b'"', b"\x00", b"\xff", b"\xef\xbb\xbf", b"%", b"@"]),
                st.binary(max_size=3),
            )
        )  # fmt: skip
        data = data[:at] + put + data[at + draw(st.integers(0, 12)) :]
    return data
