"""`secretstores.kubernetes`: which namespace is read, and what is said where that cannot be."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from dapr_shared.components.kubernetes.secrets import KubernetesSecretSettings, KubernetesSecretStore
from dapr_shared.contracts.component import BackendError, BackendUnavailableError, ComponentContext
from dapr_shared.contracts.secretstores import SecretNotFoundError
from dapr_shared.contracts.settings import SettingError, decode_settings
from dapr_shared.kube.objects import SECRETS
from tests.support.fake_kube import TOKEN, FakeKube, refused
from tests.support.kubernetes_secrets import kubeconfig

if TYPE_CHECKING:
    from aiohttp import web

OWN, OTHER = {"value": "dg=="}, {"value": "b3RoZXI="}


@pytest.fixture
async def fake(tmp_path, monkeypatch):
    """A cluster with the Secret `token` in two namespaces."""
    monkeypatch.delenv("NAMESPACE", raising=False)
    async with AsyncExitStack() as stack:
        server = FakeKube()
        await server.start(stack)
        server.put(SECRETS, "token", "shop", data=OWN)
        server.put(SECRETS, "token", "bank", data=OTHER)
        file = kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{server.port}", "shop", TOKEN)
        monkeypatch.setenv("KUBECONFIG", str(file))
        yield server


@asynccontextmanager
async def opened(*, single_app: bool, namespace: str = "shop", **metadata: str):
    context = ComponentContext("vault", "secretstores.kubernetes", namespace=namespace, single_app=single_app)
    store = KubernetesSecretStore(decode_settings(KubernetesSecretSettings, metadata), context)
    async with AsyncExitStack() as stack:
        await store.start(stack)
        yield store


async def test_for_many_apps_the_own_namespace_alone_is_read(fake, monkeypatch):
    """Neither the request nor the environment leads to another namespace, and asking for one is refused before it is read."""
    monkeypatch.setenv("NAMESPACE", "bank")
    async with opened(single_app=False) as store:
        assert await store.get("token", {}) == {"value": "v"}
        assert await store.get("token", {"namespace": "shop"}) == {"value": "v"}
        assert await store.bulk({}) == {"token": {"value": "v"}}
        asked = len(fake.requests)
        for metadata in ({"namespace": "bank"}, {"namespace": "../bank"}, {"namespace": "shop/../bank"}):
            with pytest.raises(BackendError, match="reads the Secrets of namespace shop alone"):
                await store.get("token", metadata)
            with pytest.raises(BackendError, match="reads the Secrets of namespace shop alone"):
                await store.bulk(metadata)
        assert len(fake.requests) == asked


@pytest.mark.parametrize("metadata", [{"defaultNamespace": "bank"}, {"kubeconfigPath": "/etc/other"}])
def test_for_many_apps_settings_lead_nowhere_else(metadata):
    """A Component of one namespace cannot be set to read another's Secrets, or another cluster's."""
    context = ComponentContext("vault", "secretstores.kubernetes", namespace="shop")
    with pytest.raises(SettingError, match=next(iter(metadata))):
        KubernetesSecretStore(decode_settings(KubernetesSecretSettings, metadata), context)


async def test_for_one_app_the_namespace_is_found_as_in_daprd(fake, monkeypatch):
    """The request's namespace, then NAMESPACE, then defaultNamespace, else an error (reference components §6)."""
    async with opened(single_app=True) as store:
        with pytest.raises(BackendError, match="no namespace is given"):
            await store.get("token", {})
    async with opened(single_app=True, defaultNamespace="shop") as store:
        assert await store.get("token", {}) == {"value": "v"}
        monkeypatch.setenv("NAMESPACE", "bank")
        assert await store.get("token", {}) == {"value": "other"}
        assert await store.get("token", {"namespace": "shop"}) == {"value": "v"}
        with pytest.raises(BackendError, match="no name of a namespace"):
            await store.get("token", {"namespace": "shop/secrets/../.."})


async def test_what_the_roles_lack_is_named(fake):
    """Without the verb list, all secrets at once are refused in words that name it; single ones are still read."""

    def refuse(request: web.BaseRequest):
        if request.path.endswith("/secrets"):
            text = 'secrets is forbidden: User "system:serviceaccount:shop:dapr" cannot list resource "secrets" in API group ""'
            return refused(403, "Forbidden", text)
        return None

    fake.refuse = refuse
    async with opened(single_app=False) as store:
        assert await store.get("token", {}) == {"value": "v"}
        with pytest.raises(BackendError, match="list") as error:
            await store.bulk({})
    assert "secrets" in str(error.value)


async def test_a_server_that_is_away(fake):
    """The store starts while the API server is away, says so when it is asked, and answers when it is back."""
    await fake.down()
    async with opened(single_app=False) as store:
        with pytest.raises(BackendUnavailableError):
            await store.get("token", {})
        await fake.up()
        assert await store.get("token", {}) == {"value": "v"}


async def test_values_are_decoded(fake):
    """Values come out of base64; what is no text has replacement characters, and what is no base64 is an error without it."""
    fake.put(SECRETS, "mixed", "shop", data={"text": "w7w=", "bytes": "//4="})
    fake.put(SECRETS, "empty", "shop")
    fake.put(SECRETS, "broken", "shop", data={"value": "not base64"})
    async with opened(single_app=False) as store:
        assert await store.get("mixed", {}) == {"text": "ü", "bytes": "\ufffd\ufffd"}
        assert await store.get("empty", {}) == {}
        with pytest.raises(BackendError) as error:
            await store.get("broken", {})
        assert "not base64" not in str(error.value)
        with pytest.raises(SecretNotFoundError):
            await store.get("absent", {})
