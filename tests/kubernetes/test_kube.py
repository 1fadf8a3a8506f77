"""The client, informers, lease, token review and Events at a real API server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from dapr_shared.kube import client as client_module
from dapr_shared.kube import events as events_module
from dapr_shared.kube import informer as informer_module
from dapr_shared.kube.client import KubeClient
from dapr_shared.kube.config import KubeConfig, Material, config_from
from dapr_shared.kube.errors import Forbidden, NotFound, Unauthorized
from dapr_shared.kube.events import EventRecorder, record_event
from dapr_shared.kube.informer import Informer
from dapr_shared.kube.lease import LeaseHolder
from dapr_shared.kube.objects import CONFIG_MAPS, LEASES, NAMESPACES, PODS, SECRETS, SERVICE_ACCOUNTS, custom
from dapr_shared.kube.tokens import NotAuthenticated, review_token

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.kubernetes


@asynccontextmanager
async def client_of(kubeconfig: Path):
    """A client by this kubeconfig."""
    async with AsyncExitStack() as stack:
        client = KubeClient.from_environment({"KUBECONFIG": str(kubeconfig)})
        await client.start(stack)
        yield client


@asynccontextmanager
async def running(informer: Informer):
    """The informer at work."""
    task = asyncio.create_task(informer.run())
    try:
        yield informer
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def names(informer: Informer) -> list[str]:
    return sorted(key.name for key in informer.objects)


def config_map(name: str, **data: str) -> dict:
    return {"metadata": {"name": name}, "data": data}


async def test_objects(api_server, namespace, monkeypatch):
    """Objects are created, listed in parts, watched, changed and removed, with and without their contents."""
    monkeypatch.setattr(client_module, "CHUNK", 2)
    monkeypatch.setattr(client_module, "CHUNK_METADATA", 2)
    async with client_of(api_server.kubeconfig) as client:
        for number in range(5):
            await client.create(CONFIG_MAPS, config_map(f"m{number}", text=f"{number}"), namespace)
        chosen = await client.list(NAMESPACES, label_selector=f"kubernetes.io/metadata.name={namespace}")
        assert [item["metadata"]["name"] for item in chosen.items] == [namespace]
        whole = Informer(client, CONFIG_MAPS, namespace, changed=lambda: None)
        brief = Informer(client, CONFIG_MAPS, namespace, metadata_only=True, changed=lambda: None)
        async with running(whole), running(brief):
            assert await whole.wait_synced(30)
            assert await brief.wait_synced(30)
            # The authority's certificate is put there by a controller, some time after the namespace was made.
            await until(lambda: names(whole) == names(brief) == ["kube-root-ca.crt", "m0", "m1", "m2", "m3", "m4"])
            assert whole.objects[namespace, "m3"]["data"] == {"text": "3"}
            assert brief.objects[namespace, "m3"].keys() == {"apiVersion", "kind", "metadata"}
            await client.patch(CONFIG_MAPS, "m0", {"data": {"text": "new"}}, namespace)
            await client.patch(CONFIG_MAPS, "m9", config_map("m9", text="applied"), namespace, apply_as="test")
            await client.delete(CONFIG_MAPS, "m4", namespace)
            await until(lambda: names(whole) == names(brief) == ["kube-root-ca.crt", "m0", "m1", "m2", "m3", "m9"])
            await until(lambda: whole.objects[namespace, "m0"]["data"]["text"] == "new")
            assert "managedFields" not in whole.objects[namespace, "m9"]["metadata"]


async def test_forbidden(api_server, namespace):
    """What an account may not do is said with its name, the verb, the resource and the namespace."""
    token = api_server.service_account_token(namespace, "default")
    async with client_of(api_server.kubeconfig_for(token, namespace)) as client:
        assert client.namespace == namespace
        lacks = f"secrets is forbidden: the service account {namespace}/default needs the verb list on secrets"
        with pytest.raises(Forbidden, match=f"^{lacks} in namespace {namespace}: Role with"):
            await client.list(SECRETS, namespace)
        with pytest.raises(Forbidden, match=f"^{lacks} cluster-wide: ClusterRole with"):
            await client.list(SECRETS)
        informer = Informer(client, PODS, namespace, changed=lambda: None)
        async with running(informer):
            await until(lambda: informer.state.problem)
            rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
            role = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "metadata": {"name": "r"},
                "rules": [rule],
            }
            binding = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "r"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
                "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
            }
            api_server.apply(role, binding, namespace=namespace)
            assert await informer.wait_synced(30)
            await until(lambda: "needs the verb watch on pods" in informer.state.problem)
            rule["verbs"].append("watch")
            api_server.apply(role, namespace=namespace)
            await until(lambda: not informer.state.problem)
    async with client_of(api_server.kubeconfig_for("nobody", namespace)) as client:
        with pytest.raises(Unauthorized):
            await client.list(PODS, namespace)


async def test_identities(api_server, namespace, tmp_path):
    """A client certificate proves us, and so does what a pod has: token, authority and namespace in files."""
    pair = Material(api_server.folder / "kubelet-client.pem"), Material(api_server.folder / "kubelet-client.key")
    by_certificate = KubeConfig(api_server.address, namespace, "a test", None, Material(api_server.ca), *pair)
    (tmp_path / "token").write_text(api_server.service_account_token(namespace, "default"))
    (tmp_path / "namespace").write_text(namespace)
    (tmp_path / "ca.crt").write_bytes(api_server.ca.read_bytes())
    host, port = api_server.address.removeprefix("https://").split(":")
    in_pod = config_from({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}, tmp_path)
    async with AsyncExitStack() as stack:
        admin, pod = KubeClient(by_certificate), KubeClient(in_pod)
        await admin.start(stack)
        await pod.start(stack)
        assert (await admin.get(SERVICE_ACCOUNTS, "default", namespace))["metadata"]["name"] == "default"
        assert pod.namespace == namespace
        with pytest.raises(Forbidden, match=f"the service account {namespace}/default"):
            await pod.get(SERVICE_ACCOUNTS, "default", namespace)


async def test_kind_installed_later(api_server, namespace, monkeypatch):
    """A custom kind that is installed after the start is found, and its removal is seen."""
    monkeypatch.setattr(informer_module, "ABSENT", 0.3)
    group = f"{namespace}.example.io"
    kind = custom(group, "v1", "teas", "Tea")
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"teas.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "teas", "kind": "Tea"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }
    async with client_of(api_server.kubeconfig) as client:
        informer = Informer(client, kind, namespace, changed=lambda: None)
        async with running(informer):
            assert await informer.wait_synced(30)
            assert not informer.state.installed
            api_server.apply(definition)
            await until(lambda: informer.state.installed)
            await client.create(
                kind, {"apiVersion": kind.api_version, "kind": "Tea", "metadata": {"name": "green"}}, namespace
            )
            await until(lambda: names(informer) == ["green"])
            api_server.delete("crd", f"teas.{group}")
            await until(lambda: not informer.state.installed)
            assert names(informer) == []


_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "tea"},
    "spec": {"containers": [{"name": "tea", "image": "localhost/tea:1"}]},
}


async def test_token_review(api_server, namespace):
    """A real token names its account and pod, for its audience alone."""
    api_server.apply(_POD, namespace=namespace)
    token = api_server.service_account_token(namespace, "default", "dapr-shared", pod="tea")
    async with client_of(api_server.kubeconfig) as client:
        found = await review_token(client, token, ["dapr-shared"])
        assert (found.namespace, found.service_account, found.audiences) == (namespace, "default", ("dapr-shared",))
        uid = (await client.get(PODS, "tea", namespace))["metadata"]["uid"]
        assert (found.pod_name, found.pod_uid) == ("tea", uid)
        with pytest.raises(NotAuthenticated) as caught:
            await review_token(client, token, ["others"])
        assert token not in str(caught.value)
        with pytest.raises(NotAuthenticated):
            await review_token(client, token[:-8] + "AAAAAAAA", ["dapr-shared"])
    bare = api_server.service_account_token(namespace, "default")
    async with client_of(api_server.kubeconfig_for(bare)) as client:
        with pytest.raises(
            Forbidden, match=r"needs the verb create on tokenreviews.authentication.k8s.io cluster-wide"
        ):
            await review_token(client, token, ["dapr-shared"])


@pytest.mark.slow
async def test_token_of_a_pod_that_is_gone(api_server, namespace):
    """A token bound to a pod proves nobody once the pod is gone."""
    api_server.apply(_POD, namespace=namespace)
    token = api_server.service_account_token(namespace, "default", "dapr-shared", pod="tea")
    async with client_of(api_server.kubeconfig) as client:
        await review_token(client, token, ["dapr-shared"])
        api_server.kubectl("delete", "pod", "tea", "-n", namespace, "--grace-period=0", "--force")

        async def is_refused() -> bool:
            try:
                await review_token(client, token, ["dapr-shared"])
            except NotAuthenticated:
                return True
            return False

        async with asyncio.timeout(30):  # the server itself remembers what it has reviewed for ten seconds
            while not await is_refused():  # noqa: ASYNC110
                await asyncio.sleep(0.2)


async def test_events(api_server, namespace, monkeypatch):
    """An Event is seen under its object by kubectl, and its repeats are counted."""
    async with client_of(api_server.kubeconfig) as client:
        about = await client.create(CONFIG_MAPS, config_map("tea"), namespace)
        about |= {"apiVersion": "v1", "kind": "ConfigMap"}
        await record_event(client, about, "Warning", "Refused", "this is not allowed")
        monkeypatch.setattr(events_module, "REPEAT_INTERVAL", 0.0)
        await EventRecorder(client).record(about, "Warning", "Refused", "this is not allowed")
    (event,) = api_server.items("events", namespace)
    assert (event["count"], event["message"], event["source"]["component"]) == (2, "this is not allowed", "dapr-shared")
    told = api_server.kubectl("events", "-n", namespace, "--for", "configmap/tea")
    assert "x2" in told
    assert "this is not allowed" in told


async def test_lease_is_given_back(api_server, namespace):
    """Of two instances one holds the lease; when it ends in order, the other holds it within seconds."""
    async with client_of(api_server.kubeconfig) as client:
        one, two = (LeaseHolder(client, "status", namespace, identity) for identity in ("one", "two"))
        first, second = asyncio.create_task(one.run()), asyncio.create_task(two.run())
        await until(lambda: one.held or two.held)
        holder, other, task, rest = (one, two, first, second) if one.held else (two, one, second, first)
        begun = (await client.get(LEASES, "status", namespace))["spec"]["acquireTime"]
        async with asyncio.timeout(15):  # the holder has renewed it, and the other one has looked
            while (await client.get(LEASES, "status", namespace))["spec"]["renewTime"] == begun or not other.holder:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert (holder.held, other.held) == (True, False)
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: other.held, 6)
        rest.cancel()
        await asyncio.wait([rest])
        assert (await client.get(LEASES, "status", namespace))["spec"]["holderIdentity"] == ""


@pytest.mark.slow
async def test_lease_of_a_killed_holder(api_server, namespace):
    """The lease of a process that was killed is taken over when its duration is over, not before."""
    program = (
        "import asyncio, sys\n"
        "from contextlib import AsyncExitStack\n"
        "from dapr_shared.kube.client import KubeClient\n"
        "from dapr_shared.kube.lease import LeaseHolder\n"
        "async def main():\n"
        "    async with AsyncExitStack() as stack:\n"
        "        client = KubeClient.from_environment({'KUBECONFIG': sys.argv[1]})\n"
        "        await client.start(stack)\n"
        "        holder = LeaseHolder(client, 'status', sys.argv[2], 'killed', changed=lambda: print('held', flush=True))\n"
        "        await holder.run()\n"
        "asyncio.run(main())\n"
    )
    words = [sys.executable, "-c", program, str(api_server.kubeconfig), namespace]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220 - it is read in a thread
        try:
            assert process.stdout is not None
            assert (await asyncio.to_thread(process.stdout.readline)) == "held\n"
            async with client_of(api_server.kubeconfig) as client:
                other = LeaseHolder(client, "status", namespace, "other")
                task = asyncio.create_task(other.run())
                await until(lambda: other.holder == "killed")
                process.kill()
                begun = asyncio.get_running_loop().time()
                await until(lambda: other.held, 25)
                assert asyncio.get_running_loop().time() - begun > 10
                spec = (await client.get(LEASES, "status", namespace))["spec"]
                assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("other", 1)
                task.cancel()
                await asyncio.wait([task])
        finally:
            process.kill()


@pytest.mark.slow
async def test_server_killed_and_back(own_api_server):
    """While the API server is away what is known is served; back, with its history compacted, all is true again."""
    namespace = own_api_server.create_namespace()
    states = []
    async with client_of(own_api_server.kubeconfig) as client:
        for name in ("stays", "goes"):
            await client.create(CONFIG_MAPS, config_map(name), namespace)
        informer = Informer(client, CONFIG_MAPS, namespace, changed=lambda: None, told=states.append)
        async with running(informer):
            await until(lambda: {"stays", "goes"} <= set(names(informer)))
            await asyncio.to_thread(own_api_server.kill_server)
            await until(lambda: "cannot be reached" in informer.state.problem)
            assert {"stays", "goes"} <= set(names(informer))
            assert informer.state.synced
            await asyncio.to_thread(own_api_server.start_server)
            await until(lambda: not informer.state.problem, 60)
            await client.delete(CONFIG_MAPS, "goes", namespace)
            await client.create(CONFIG_MAPS, config_map("comes"), namespace)
            await until(lambda: "comes" in names(informer) and "goes" not in names(informer))
            await asyncio.to_thread(own_api_server.kill_server)
            revision = await asyncio.to_thread(_compact, own_api_server._etcd)
            assert revision > 0
            await asyncio.to_thread(own_api_server.start_server)
            await client.delete(CONFIG_MAPS, "comes", namespace)
            await until(lambda: "comes" not in names(informer) and not informer.state.problem, 60)
        with pytest.raises(NotFound):
            await client.get(CONFIG_MAPS, "comes", namespace)


@pytest.mark.slow
async def test_history_is_lost_between_two_parts_of_a_list(own_api_server, monkeypatch):
    """A list whose second part is asked for when the server knows that version no more (410) is read anew, and is whole."""
    monkeypatch.setattr(client_module, "CHUNK", 2)
    namespace = own_api_server.create_namespace()
    asked: list[list[str]] = []
    async with client_of(own_api_server.kubeconfig) as client:
        for number in range(5):
            await client.create(CONFIG_MAPS, config_map(f"m{number}"), namespace)
        ask = client._connection.ask

        async def ask_and_forget(request):
            if request.asked.verb != "list":
                return await ask(request)
            asked.append(sorted(request.params))
            answer = await ask(request)
            if len(asked) == 1:
                await client.delete(CONFIG_MAPS, "m0", namespace)
                await client.create(CONFIG_MAPS, config_map("m5"), namespace)
                await asyncio.to_thread(own_api_server.kill_server)
                await asyncio.to_thread(_compact, own_api_server._etcd)
                await asyncio.to_thread(own_api_server.start_server)
            return answer

        monkeypatch.setattr(client._connection, "ask", ask_and_forget)
        found = await client.list(CONFIG_MAPS, namespace)
        monkeypatch.undo()
        here = sorted(
            item["metadata"]["name"] for item in found.items if item["metadata"]["name"] != "kube-root-ca.crt"
        )
        assert here == ["m1", "m2", "m3", "m4", "m5"]
        assert asked == [["limit"], ["continue", "limit"], []], "the whole list at once, then"
        informer = Informer(client, CONFIG_MAPS, namespace, changed=lambda: None)
        async with running(informer):
            assert await informer.wait_synced(30)
            await client.delete(CONFIG_MAPS, "m1", namespace)
            await until(lambda: "m1" not in names(informer))


def _compact(port: int) -> int:
    """Have etcd forget its history, as it does by itself every five minutes; up to which revision."""

    def ask(path: str, body: dict) -> dict:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v3/kv/{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    revision = int(ask("range", {"key": "AA=="})["header"]["revision"])
    ask("compaction", {"revision": revision, "physical": True})
    return revision
