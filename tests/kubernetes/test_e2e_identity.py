"""Who calls, on two real nodes: tokens that kubelets project into pods, sent by a client without an SDK."""

from __future__ import annotations

import json

import pytest

from tests.support.kubernetes_objects import TOKEN_FOLDER, account, app, idle, pod, with_tokens
from tests.support.kubernetes_release import AUDIENCE

pytestmark = pytest.mark.e2e


@pytest.fixture
def tellers(release):
    """A pod of the service account `teller`, which is an app, and one of `stranger`, which is none, on each node."""
    release.apply(account("teller"), account("stranger"))
    release.apply(app("teller", release.namespace, 0, serviceAccount="teller"))
    release.kubectl("wait", "--for=condition=Accepted", "apps.shared.dapr.io/teller", "--timeout=60s")
    names = []
    for node in ("node1", "node2"):
        marks = {"dapr.io/app-id": "teller"}  # the instance follows such pods
        ours = pod(f"teller-{node}", idle(), node, account="teller", annotations=marks)
        other = pod(f"stranger-{node}", idle(), node, account="stranger")
        release.apply(*(with_tokens(one, ours=AUDIENCE, vault="vault") for one in (ours, other)))
        names += [f"teller-{node}", f"stranger-{node}"]
    release.ready(*names)
    yield release
    release.kubectl("delete", "pod", *names, "--ignore-not-found", "--timeout=60s")
    release.kubectl("delete", "apps.shared.dapr.io/teller")


def _said(release, pod_name: str, *files: str, given: str = "") -> list[tuple[int, str]]:
    """Status, and app id or message, that a pod gets with its token of each file."""
    url = release.endpoint(3500) + "/v1.0/metadata"
    places = [file if file == "-" else f"{TOKEN_FOLDER}/{file}" for file in files]
    answers = release.run(pod_name, "/apps/plain.py", url, *places, given=given)
    bodies = [(status, json.loads(body)) for status, body in answers]
    return [(status, body.get("id") or body["message"]) for status, body in bodies]


def test_a_projected_token_proves_the_app(tellers):
    """A token with our audience is its service account's app; one of another audience or account is refused."""
    for node in ("node1", "node2"):
        tellers.wait_until(lambda name=node: _said(tellers, f"teller-{name}", "ours")[0][0] == 200, "the App")
        right, wrong = _said(tellers, f"teller-{node}", "ours", "vault")
        assert right == (200, "teller")
        assert (wrong[0], "for another audience" in wrong[1]) == (401, True), wrong
        ((status, message),) = _said(tellers, f"stranger-{node}", "ours")
        assert (status, "no app has its service account" in message) == (401, True), message


def test_a_token_ends_with_its_pod(tellers):
    """The token of a deleted pod proves nothing any more, wherever it is sent from, though its time is not over."""
    program = "import json, sys; print(json.dumps(open(sys.argv[1]).read()))"
    token = tellers.run("teller-node1", "-c", program, f"{TOKEN_FOLDER}/ours")
    for node in ("node1", "node2"):  # both instances know it, where there is one a node
        tellers.wait_until(
            lambda name=node: _said(tellers, f"client-{name}", "-", given=token) == [(200, "teller")], "the App"
        )
    tellers.kubectl("delete", "pod", "teller-node1", "--wait=true", "--timeout=60s")
    for node in ("node1", "node2"):
        tellers.wait_until(
            lambda name=node: _said(tellers, f"client-{name}", "-", given=token)[0][0] == 401, "its end", 30
        )
