"""What an instance does in a cluster, each with the verbs without which it cannot; and the objects that show it.

For the trial of a release without one of its verbs (`kubernetes_rights.py`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from dapr_shared.identity.service_accounts import NotVerifiableError
from dapr_shared.kube.errors import NotFound
from dapr_shared.kube.objects import EVENTS, LEASES, PODS
from dapr_shared.kubernetes.resources import APPS, COMPONENTS
from dapr_shared.runtime.app_status import lease_name
from dapr_shared.wire.http.messages import Request
from tests.support.kubernetes_instance import app, memory, of_dapr, pod, service
from tests.support.kubernetes_rights import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.kubernetes_rights import Tried

ADDRESS = "10.244.1.5"
"""Of the pod that stands for an app."""
WRONG, RIGHT = "state.nonsense", "state.in-memory"
_LISTS = {
    "components": "components", "configurations": "configurations", "httpendpoints": "http_endpoints",
    "resiliencies": "resiliencies", "subscriptions": "subscriptions",
}  # fmt: skip
"""Dapr's kinds, and how resources in force call them."""


# What is there, and what comes while the instance runs --------------------------------------------------------------
def _of_dapr(name: str) -> list[dict[str, Any]]:
    """One of each of Dapr's kinds."""
    rules = {"pubsubname": "none", "topic": "t", "routes": {"default": "/t"}}
    return [
        memory(name),
        of_dapr("Configuration", name, {}),
        of_dapr("HTTPEndpoint", name, {"baseUrl": "https://example.org"}),
        of_dapr("Resiliency", name, {"policies": {}, "targets": {}}),
        of_dapr("Subscription", name, rules, scopes=["orders"]),
    ]


def _pod(name: str) -> dict[str, Any]:
    made = pod(name, app_id=name, app_port="1")
    return {**made, "spec": {**made["spec"], "serviceAccountName": "runner"}}


def world(*, many: bool) -> list[dict[str, Any]]:
    """What is in the namespace before the instance starts."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "vault"},
        "stringData": {"token": "vault-token"},
    }
    always = [*_of_dapr("first"), of_dapr("Configuration", "own", {}), secret]
    if not many:
        return always
    reference = {"secretKeyRef": {"name": "vault", "key": "token"}}
    return [
        *always,
        of_dapr("Component", "wrong", {"type": WRONG, "version": "v1", "metadata": []}),
        of_dapr("Component", "with-secret", {"type": RIGHT, "version": "v1", "metadata": [{"name": "x", **reference}]}),
        app("app-first"),
        app("vault", tokens=[reference]),
        app("mailer", serviceAccount="mailer", tokens=[]),
        app("bound", tokens=[]),
        service("service-first", app_id="service-first"),
        _pod("pod-first"),
        _pod("bound"),
    ]


def later(*, many: bool) -> list[dict[str, Any]]:
    """What comes after the start."""
    more = [app("app-later"), service("service-later", app_id="service-later"), _pod("pod-later")]
    return [*_of_dapr("later"), *(more if many else [])]


async def run_pod(tried: Tried, name: str, address: str) -> None:
    """Say of a pod that it runs, as a kubelet would."""
    now = "2026-01-01T00:00:00Z"
    ready = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
    body = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready, "startTime": now}
    await tried.admin.patch(PODS, name, {"status": body}, tried.namespace, subresource="status")


# What works ---------------------------------------------------------------------------------------------------------
class Feature(NamedTuple):
    """Something that an instance does, and the verbs without which it cannot."""

    name: str
    works: Callable[[Tried], Awaitable[bool]]
    verbs: frozenset[str]
    """As `Verb.name`."""
    uncertain: frozenset[str] = frozenset()
    """Verbs without which it may work, for a while or not."""


def _kind(resource: str, name: str) -> Callable[[Tried], Awaitable[bool]]:
    async def works(tried: Tried) -> bool:
        found = getattr(tried.instance._reloader.resources, _LISTS[resource])
        return any(each.name == name for each in found)

    return works


def _served(app_id: str) -> Callable[[Tried], Awaitable[bool]]:
    async def works(tried: Tried) -> bool:
        return bool(tried.instance.parts.apps.named(app_id))

    return works


async def _component_with_secret(tried: Tried) -> bool:
    refused = tried.instance._reloader.refusals.now
    known = await _kind("components", "with-secret")(tried)
    return known and not any(str(origin).endswith("/with-secret") for origin in refused)


async def _by_address(tried: Tried) -> bool:
    """Whether the pods of the node are followed; there is no node here, and so none of them."""
    try:
        return not tried.instance.parts.cluster._node_pods.at(ADDRESS)
    except NotVerifiableError:
        return False


async def _proved(tried: Tried, token: str, app_id: str) -> bool:
    headers = [(b"host", b"x"), (b"dapr-api-token", token.encode())]
    answer = await tried.instance.parts.http(Request("GET", b"/v1.0/metadata", headers, b""))
    return answer.status == 200 and json.loads(answer.body)["id"] == app_id


async def _by_service_account(tried: Tried) -> bool:
    return await _proved(tried, await tried.token("mailer", "dapr-shared"), "mailer")


async def _by_pod(tried: Tried) -> bool:
    return await _proved(tried, await tried.token("runner", "dapr-shared", pod="bound"), "bound")


async def _by_secret(tried: Tried) -> bool:
    return await _proved(tried, "vault-token", "vault")


async def _secret_api(tried: Tried) -> bool:
    target = f"/v1.0/secrets/kubernetes/vault?metadata.namespace={tried.namespace}"
    answer = await tried.instance.parts.http(Request("GET", target.encode(), [(b"host", b"x")], b""))
    if answer.status != 200:
        tried.answer = json.loads(answer.body)["message"]
    return answer.status == 200


async def _status(tried: Tried) -> bool:
    found = await tried.admin.get(APPS, "app-first", tried.namespace)
    return bool(found.get("status"))


async def _events(tried: Tried) -> dict[str, int]:
    found = await tried.admin.list(EVENTS, tried.namespace)
    return {
        f"{each['involvedObject']['kind']} {each['involvedObject']['name']} {each['reason']}": each["count"]
        for each in found.items
        if each.get("source", {}).get("component") == "dapr-shared"
    }


async def _event(tried: Tried) -> bool:
    return "Component wrong Refused" in await _events(tried)


async def _app_event(tried: Tried) -> bool:
    return "App app-first Accepted" in await _events(tried)


async def _repeat(tried: Tried) -> bool:
    return (await _events(tried)).get("Component wrong Accepted", 0) > 1


async def _kept(tried: Tried) -> bool:
    try:
        spec = (await tried.admin.get(LEASES, lease_name(tried.settings.watch_namespaces), tried.namespace))["spec"]
    except NotFound:
        return False
    return bool(spec["holderIdentity"]) and spec["renewTime"] != spec["acquireTime"]


async def _started(tried: Tried) -> bool:
    return tried.instance is not None


def needs(*names: str) -> frozenset[str]:
    return frozenset(names)


LEASE = needs("get leases.coordination.k8s.io", "create leases.coordination.k8s.io")
RENEW = needs("update leases.coordination.k8s.io")
DAPR = [
    feature
    for resource in _LISTS
    for feature in (
        Feature(f"{resource} at the start", _kind(resource, "first"), needs(f"list {resource}.dapr.io")),
        Feature(
            f"{resource} that come later",
            _kind(resource, "later"),
            needs(f"list {resource}.dapr.io", f"watch {resource}.dapr.io"),
        ),
    )
]
CONFIG = Feature("the instance's own Configuration", _started, needs("get configurations.dapr.io"))
REPEAT = Feature(
    "a repeated Event",
    _repeat,
    LEASE | needs("create events", "patch events", "list components.dapr.io", "watch components.dapr.io"),
    RENEW,
)
BY_ADDRESS = Feature("an address", _by_address, needs("list pods", "watch pods"))
BY_ACCOUNT = Feature(
    "a service account token",
    _by_service_account,
    needs("create tokenreviews.authentication.k8s.io", "list apps.shared.dapr.io"),
)
BY_KEYS = Feature(
    "a service account token, verified by keys",
    _by_service_account,
    needs("get /.well-known/openid-configuration", "get /openid/v1/jwks"),
)
KEPT = Feature("the Lease, kept", _kept, LEASE | RENEW)
STATUS = Feature(
    "the status of an App",
    _status,
    LEASE | needs("list apps.shared.dapr.io", "patch apps.shared.dapr.io/status"),
    RENEW,
)
OF_MANY = [
    *DAPR,
    CONFIG,
    Feature("an App", _served("app-first"), needs("list apps.shared.dapr.io")),
    Feature("a later App", _served("app-later"), needs("list apps.shared.dapr.io", "watch apps.shared.dapr.io")),
    Feature("a Service", _served("service-first"), needs("list services")),
    Feature("a later Service", _served("service-later"), needs("list services", "watch services")),
    Feature("a Pod", _served("pod-first"), needs("list pods", "get pods")),
    Feature("a later Pod", _served("pod-later"), needs("list pods", "get pods", "watch pods")),
    BY_ADDRESS,
    Feature("a Component with a Secret", _component_with_secret, needs("get secrets", "list components.dapr.io")),
    Feature("a token of a Secret", _by_secret, needs("get secrets", "list apps.shared.dapr.io")),
    BY_ACCOUNT,
    KEPT,
    STATUS,
    Feature(
        "Events of an App",
        _app_event,
        LEASE | needs("create events", "list apps.shared.dapr.io", "patch apps.shared.dapr.io/status"),
        RENEW,
    ),
    Feature("an Event", _event, LEASE | needs("create events", "list components.dapr.io"), RENEW),
    REPEAT,
]  # fmt: skip
BY_POD = Feature(
    "a token of a Pod that is not followed",
    _by_pod,
    needs("get pods", "create tokenreviews.authentication.k8s.io", "list apps.shared.dapr.io"),
)
OF_ONE = [
    *(each for each in DAPR if not each.name.startswith("configurations")),
    CONFIG,
    Feature("the API of secrets", _secret_api, needs("get secrets")),
]
OF_MANY_TO_START = needs("get configurations.dapr.io")
"""Verbs without which an instance does not start."""
OF_ONE_TO_START = OF_MANY_TO_START | needs(
    *(f"list {name}.dapr.io" for name in _LISTS if name != "configurations"),
)
"""Those of an instance for one app."""


async def flap(tried: Tried) -> None:
    """A Component becomes right and wrong again, until an Event of it was there twice."""
    refused = tried.instance._reloader.refusals
    for kind in (RIGHT, WRONG, RIGHT):
        body = {"spec": {"type": kind}}
        await tried.admin.patch(COMPONENTS, "wrong", body, tried.namespace)
        await until(
            lambda: any(str(origin).endswith("/wrong") for origin in refused.now) is (kind == WRONG),  # noqa: B023
            f"the Component of {tried.missing}",
        )
