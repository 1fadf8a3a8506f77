"""Secrets of a real API server that hold tokens of apps: deleted, changed, out of reach, and back."""

from __future__ import annotations

import time
from base64 import b64encode
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.instance import token_of
from tests.support.kubernetes_instance import app, cluster_instance, install_kinds, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.instance import Instance

pytestmark = pytest.mark.kubernetes
PERIOD = 0.5
"""Seconds between two looks at a Secret, in place of 30."""


@pytest.fixture(scope="session")
def kinds(api_server):
    """The control plane with the kinds of the chart."""
    install_kinds(api_server)
    return api_server


@contextmanager
def looking(folder: Path, kubeconfig: Path, namespace: str) -> Iterator[Instance]:
    """The real process, which looks at Secrets more often than it does by itself."""
    folder.mkdir()
    text = f"from dapr_shared.runtime import token_watch\n\ntoken_watch.PERIOD = {PERIOD}\ntoken_watch.GATHER = 0.1\n"
    (folder / "sitecustomize.py").write_text(text)
    with cluster_instance(folder / "run", kubeconfig, namespace, env={"PYTHONPATH": str(folder)}) as instance:
        yield instance


def secret(name: str, token: str) -> dict[str, Any]:
    data = {"token": b64encode(token.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def orders(*secrets: str, **spec: Any) -> dict[str, Any]:
    return app("orders", tokens=[{"secretKeyRef": {"name": each, "key": "token"}} for each in secrets], **spec)


def proves(instance: Instance, whose: str) -> bool:
    """Whether this token proves the app."""
    return metadata(instance, whose).get("id") == "orders"


def until(condition: Callable[[], object], what: str, seconds: float = 20) -> float:
    """How many seconds it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + seconds, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)
    return time.monotonic() - begun


def test_a_secret_is_deleted_and_comes_back(kinds, namespace, tmp_path):
    """Its token is refused within the bound and after the App has changed, the other one goes on; and it is told."""
    kinds.apply(secret("one", token_of("one")), secret("two", token_of("two")), namespace=namespace)
    kinds.apply(orders("one", "two"), namespace=namespace)
    with looking(tmp_path / "instance", kinds.kubeconfig, namespace) as instance:
        assert proves(instance, "one")
        assert proves(instance, "two")
        kinds.delete("secret", "one", namespace)
        until(lambda: not proves(instance, "one"), "the token to be refused", 4 * PERIOD)
        assert proves(instance, "two")
        line = instance.wait_for_line("resource refused", origin=f"App {namespace}/orders")
        expected = (
            "spec.tokens[0]: the secret one of the store kubernetes has no value under the key token; "
            "this token proves nobody until that is mended (the rest of it is in force)"
        )
        assert line["problem"] == expected

        def status() -> dict[str, Any]:
            return kinds.get("app.shared.dapr.io", "orders", namespace).get("status", {})

        until(lambda: status().get("lastError") == expected, "the status", 40)
        kinds.apply(orders("one", "two", channel={"port": 9, "address": "127.0.0.1"}), namespace=namespace)
        until(lambda: metadata(instance, "two").get("appConnectionProperties"), "the change")
        assert not proves(instance, "one")
        kinds.apply(orders("one", "two", configuration="missing"), namespace=namespace)
        until(lambda: "there is no Configuration" in instance.output(), "the refusal")
        assert not proves(instance, "one")
        assert proves(instance, "two")
        kinds.apply(orders("one", "two"), secret("one", token_of("new")), namespace=namespace)
        until(lambda: proves(instance, "new"), "the Secret that is back", 20)
        assert not proves(instance, "one")
        instance.wait_for_line("resource no longer refused", origin=f"App {namespace}/orders")


def test_a_secret_that_may_not_be_read_any_more(kinds, namespace, tmp_path):
    """The App stays served and proved while the role is wrong: the API server has not said that the Secret is gone."""
    kinds.apply(secret("one", token_of("one")), orders("one"), namespace=namespace)
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "instance"}}
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    subject = {"kind": "ServiceAccount", "name": "default"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "instance"}
    kinds.apply(
        {**head, "kind": "Role", "rules": rules},
        {**head, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]},
        namespace=namespace,
    )
    account = kinds.kubeconfig_for(kinds.service_account_token(namespace, "default"), namespace)
    with looking(tmp_path / "instance", account, namespace) as instance:
        assert proves(instance, "one")
        others = [{"apiGroups": ["shared.dapr.io", "dapr.io"], "resources": ["*"], "verbs": ["*"]}]
        kinds.apply({**head, "kind": "Role", "rules": others}, namespace=namespace)
        kinds.apply(orders("one", channel={"port": 9, "address": "127.0.0.1"}), namespace=namespace)
        line = instance.wait_for_line("resource refused", origin=f"App {namespace}/orders")
        assert "secrets is forbidden" in line["problem"]
        assert "what it held before still proves the app" in line["problem"]
        assert proves(instance, "one")
        assert metadata(instance, "one").get("appConnectionProperties"), "the change is in force"


@pytest.mark.slow
def test_the_api_server_is_away(own_api_server, tmp_path):
    """Tokens go on while nobody can say that they are gone; what was deleted is refused soon after it is back."""
    install_kinds(own_api_server)
    namespace = own_api_server.create_namespace()
    own_api_server.apply(secret("one", token_of("one")), orders("one"), namespace=namespace)
    with looking(tmp_path / "instance", own_api_server.kubeconfig, namespace) as instance:
        assert proves(instance, "one")
        own_api_server.kill_server()
        instance.wait_for_line("the API server does not answer, what is known is served")
        time.sleep(4 * PERIOD)  # several looks
        assert proves(instance, "one")
        own_api_server.start_server()
        instance.wait_for_line("the API server answers")
        own_api_server.delete("secret", "one", namespace)
        until(lambda: not proves(instance, "one"), "the token to be refused", 30)
        instance.wait_for_line("resource refused", origin=f"App {namespace}/orders")
