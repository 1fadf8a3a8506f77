"""The conformance suite of secret stores against Secrets of a real API server, and the roles that it needs."""
# ruff: noqa: F403 - the suite is imported whole

from __future__ import annotations

from base64 import b64encode

import pytest

from dapr_shared.contracts.component import BackendError, Component, ComponentContext
from dapr_shared.contracts.settings import decode_settings
from tests.conformance.secretstores import *
from tests.support.component_setups import Harness, Setup

pytestmark = pytest.mark.kubernetes
_SECRETS = {"token": {"value": "t-1"}, "db": {"user": "u", "password": "ü"}}
_RBAC = "rbac.authorization.k8s.io"


class _InNamespace(Harness):
    """The component of one namespace of the cluster."""

    def __init__(self, namespace: str) -> None:
        super().__init__("secretstores.kubernetes", Setup({}, secrets=_SECRETS))
        self.namespace = namespace

    def make(self) -> Component:
        adapter = self.catalog.load(self.catalog.find(self.type))
        settings = decode_settings(adapter.settings_type, {})
        return adapter(settings, ComponentContext("conformance", self.type, "v1", self.namespace, clock=self.clock))


def _secret(name: str, values: dict[str, str]) -> dict:
    data = {key: b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def _grant(server, namespace: str, *verbs: str) -> None:
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": list(verbs)}]
    role = {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": {"name": "dapr"}, "rules": rules}
    reference = {"apiGroup": _RBAC, "kind": "Role", "name": "dapr"}
    binding = {"apiVersion": f"{_RBAC}/v1", "kind": "RoleBinding", "metadata": {"name": "dapr"}, "roleRef": reference}
    server.apply(role, {**binding, "subjects": [subject]}, namespace=namespace)


@pytest.fixture
def secret_harness(api_server, namespace, monkeypatch):
    """A namespace with Secrets, and a service account that may get and list them."""
    api_server.apply(*(_secret(name, values) for name, values in _SECRETS.items()), namespace=namespace)
    _grant(api_server, namespace, "get", "list")
    token = api_server.service_account_token(namespace, "default")
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig_for(token, namespace)))
    return _InNamespace(namespace)


async def test_get_alone_is_enough_for_one_secret(secret_harness, api_server, namespace):
    """All secrets at once need the verb list, and the error says so; one secret needs get alone."""
    _grant(api_server, namespace, "get")
    async with secret_harness.opened() as store:
        assert await store.get("token", {}) == {"value": "t-1"}
        with pytest.raises(BackendError, match="needs the verb list on secrets"):
            await store.bulk({})
