"""The real process in a cluster: tokens of service accounts and addresses of pods, over HTTP and gRPC."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from dapr_shared._proto import runtime_pb
from tests.support.calls import ask, call, grpc_channel
from tests.support.cluster_tokens import AUDIENCE
from tests.support.kubernetes_instance import app, cluster_instance, install_kinds, pod

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.instance import Instance

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def prepared(api_server, namespace):
    """A namespace with an app by service account, one by the annotation of its pod, and another namespace's pod."""
    install_kinds(api_server)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "orders"}}
    api_server.apply(account, app("orders", serviceAccount="orders"), namespace=namespace)
    api_server.apply(pod("stock-1", app_id="stock", app_port="1"), namespace=namespace)
    api_server.run_pod(namespace, "stock-1", address="127.0.0.1", node="node1")
    return api_server


def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)


def who(instance: Instance, token: str = "") -> str | int:
    """The app that HTTP and gRPC both say, or the status of HTTP where both refuse; 0 where they differ, as in a change."""
    headers = [("dapr-api-token", token)] if token else []
    over_http = ask(instance.http, "GET", "/v1.0/metadata", headers=headers)
    with grpc_channel(instance.grpc) as channel:
        over_grpc = call(channel, "GetMetadata", metadata=headers)
    if over_grpc.code.name != {200: "OK", 401: "UNAUTHENTICATED", 503: "UNAVAILABLE"}[over_http.status]:
        return 0
    if over_http.status != 200:
        return over_http.status
    found = runtime_pb.GetMetadataResponse.FromString(over_grpc.data).id
    return found if over_http.json()["id"] == found else 0


@pytest.mark.parametrize("verification", ["review", "keys"])
def test_tokens_prove_apps_while_their_pods_live(prepared, namespace, tmp_path, verification):
    """Service account and bound pod prove their apps; a followed pod that is deleted takes its token with it at once."""
    flags = (f"--service-account-audience={AUDIENCE}", f"--service-account-verification={verification}")
    with cluster_instance(tmp_path / "instance", prepared.kubeconfig, namespace, *flags) as instance:
        assert who(instance, prepared.service_account_token(namespace, "orders", AUDIENCE)) == "orders"
        bound = prepared.service_account_token(namespace, "default", AUDIENCE, pod="stock-1")
        assert who(instance, bound) == "stock"
        assert who(instance, prepared.service_account_token(namespace, "default", AUDIENCE)) == 401
        assert who(instance) == 401
        prepared.kubectl("delete", "pod", "stock-1", "-n", namespace, "--force", "--grace-period=0")
        until(lambda: who(instance, bound) == 401, "the end of a token with its pod")


def test_the_address_of_a_pod_proves_its_app_while_it_runs(prepared, namespace, tmp_path):
    """With the flag the connection's address is the pod's app, over HTTP and gRPC, until the pod is gone."""
    flags, env = ("--identify-by-address",), {"NODE_NAME": "node1"}
    with cluster_instance(tmp_path / "instance", prepared.kubeconfig, namespace, *flags, env=env) as instance:
        until(lambda: who(instance) == "stock", "the pods of the node")
        forged = [("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1")]
        assert ask(instance.http, "GET", "/v1.0/metadata", headers=forged).json()["id"] == "stock"
        assert who(instance, "a-wrong-token") == 401
        prepared.kubectl("delete", "pod", "stock-1", "-n", namespace, "--force", "--grace-period=0")
        until(lambda: who(instance) == 401, "the end of an address with its pod")
