"""The control plane that tests are given is a real one, shared by a run and gone after it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.kubernetes_client import CommandError
from tests.support.kubernetes_programs import need_programs

pytestmark = pytest.mark.kubernetes
_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "tea"},
    "spec": {"containers": [{"name": "tea", "image": "localhost/tea:1"}]},
}


def test_tokens_of_service_accounts(api_server, namespace):
    """A token bound to a pod names its audience, service account and pod, and a TokenReview proves it for no other audience."""
    api_server.apply(_POD, namespace=namespace)
    token = api_server.service_account_token(namespace, "default", "dapr-shared", pod="tea")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["aud"] == ["dapr-shared"]
    assert claims["kubernetes.io"]["pod"]["name"] == "tea"

    def review(audience: str) -> dict:
        spec = {"token": token, "audiences": [audience]}
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        answer = api_server.kubectl("create", "-f", "-", "-o", "json", given=json.dumps(asked))
        return json.loads(answer)["status"]

    assert review("dapr-shared")["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert not review("others").get("authenticated")


def test_access_is_checked(api_server, namespace):
    """A service account without a role is refused, and the answer names what it lacks."""
    kubeconfig = api_server.kubeconfig_for(api_server.service_account_token(namespace, "default"))
    with pytest.raises(CommandError, match='cannot list resource "secrets"'):
        api_server.kubectl("get", "secrets", "-n", namespace, "--kubeconfig", str(kubeconfig))


def test_a_pod_is_said_to_run(api_server, namespace):
    """Without a kubelet, a test says of a pod that it is ready at an address."""
    api_server.apply(_POD, namespace=namespace)
    api_server.run_pod(namespace, "tea", address="10.244.1.7")
    api_server.kubectl("wait", "pod/tea", "-n", namespace, "--for=condition=Ready", "--timeout=10s")
    assert api_server.get("pod", "tea", namespace)["status"]["podIP"] == "10.244.1.7"


def test_controllers_work(api_server, namespace):
    """A Deployment gets its pods: the controllers are Kubernetes' own."""
    labels = {"app": "tea"}
    pod = {"metadata": {"labels": labels}, "spec": _POD["spec"]}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": pod}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "tea"}, "spec": spec}
    api_server.apply(deployment, namespace=namespace)
    api_server.wait_until(lambda: len(api_server.items("pods", namespace, selector="app=tea")) == 2, "two pods")


def test_the_server_is_killed_and_comes_back(own_api_server):
    """An API server of the test's own is killed and started again on its address, with what it knew."""
    namespace = own_api_server.create_namespace()
    address = own_api_server.address
    own_api_server.kill_server()
    assert not own_api_server.is_ready()
    own_api_server.start_server()
    assert own_api_server.address == address
    assert own_api_server.get("namespace", namespace)["status"]["phase"] == "Active"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_nothing_outlives_a_run(tmp_path, number):
    """A run that is interrupted or killed leaves no process of the shared control plane."""
    need_programs()
    folder = tmp_path / "kubernetes"
    program = (
        "import sys, time, pathlib\n"
        "from tests.support.kubernetes_keeper import kept\n"
        f"with kept('tests.support.kubernetes_api_server:ApiServer', pathlib.Path({str(folder)!r}), 120):\n"
        "    print('up', flush=True)\n"
        "    time.sleep(600)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        assert len(_processes_of(folder)) >= 4
        run.send_signal(number)
        run.wait(20)
    end = time.monotonic() + 20
    while _processes_of(folder):
        assert time.monotonic() < end, _processes_of(folder)
        time.sleep(0.1)


def _processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it has ended meanwhile
                continue
            if f"{folder}" in line and "-c import" not in line:
                found.append(line[:100])
    return found
