"""The roles of the rendered chart, one verb taken out of them, and an instance of this process that has what is left.

Many run beside each other in one event loop, each in a namespace and with a service account of its own, so that a release
with all its verbs, and one without each of them, are seen in the time of a few starts.
"""

from __future__ import annotations

import asyncio
import copy
import io
import json
import os
import re
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dapr_shared.cli.flags import parse
from dapr_shared.kube.client import KubeClient
from dapr_shared.kube.connection import Request
from dapr_shared.kube.errors import Asked
from dapr_shared.kube.objects import ACCESS_REVIEWS, NAMESPACES, PODS, SECRETS, SERVICE_ACCOUNTS, SERVICES, custom
from dapr_shared.kubernetes.resources import (
    APPS,
    COMPONENTS,
    CONFIGURATIONS,
    HTTP_ENDPOINTS,
    RESILIENCIES,
    SUBSCRIPTIONS,
)
from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.observability.events import Events
from dapr_shared.observability.logs import LogOptions, Logs
from dapr_shared.runtime.cluster_configuration import read_cluster_configuration
from dapr_shared.runtime.instance import Instance
from dapr_shared.runtime.settings import check
from dapr_shared.runtime.sources import ClusterError
from tests.support import chart
from tests.support.kubernetes_client import kubeconfig
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from dapr_shared.kube.objects import ObjectKind
    from dapr_shared.runtime.settings import Settings
    from tests.support.kubernetes_client import KubernetesClient

_RBAC = "rbac.authorization.k8s.io"
ROLES = {
    kind: custom(_RBAC, "v1", f"{kind.lower()}s", kind)
    for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
}
_KINDS: dict[str, ObjectKind] = {
    each.kind: each
    for each in (
        *(APPS, COMPONENTS, CONFIGURATIONS, HTTP_ENDPOINTS, RESILIENCIES, SUBSCRIPTIONS),
        *(NAMESPACES, PODS, SECRETS, SERVICE_ACCOUNTS, SERVICES),
        *ROLES.values(),
    )
}
_SAID = re.compile(r'User "system:serviceaccount:([^:]+):[^"]+" cannot (\S+) (?:resource|path) "([^"]+)"')


class Verb(NamedTuple):
    """A verb on a resource that a role of the chart gives."""

    role: str
    """As the chart calls it."""
    group: str
    """Empty: the core group, or a path of the API server."""
    resource: str
    verb: str

    @property
    def name(self) -> str:
        """As messages have it: `list components.dapr.io`, `patch apps.shared.dapr.io/status`."""
        plural, slash, subresource = self.resource.partition("/")
        if not plural:
            return f"{self.verb} {self.resource}"
        return f"{self.verb} {plural}{'.' if self.group else ''}{self.group}{slash}{subresource}"


def rules_of(role: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The rules of a role, each for one resource: API group, resource or path, and the rule itself."""
    for rule in role["rules"] or ():
        if "nonResourceURLs" in rule:
            for path in rule["nonResourceURLs"]:
                yield "", path, {**rule, "nonResourceURLs": [path]}
        else:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    yield group, resource, {**rule, "apiGroups": [group], "resources": [resource]}


def verbs_of(objects: Iterable[Mapping[str, Any]]) -> list[Verb]:
    """Every verb of every role."""
    return [
        Verb(each["metadata"]["name"], group, resource, verb)
        for each in objects
        if each["kind"] in ("Role", "ClusterRole")
        for group, resource, rule in rules_of(each)
        for verb in rule["verbs"]
    ]


def _moved(each: Mapping[str, Any], namespace: str, missing: Verb | None) -> dict[str, Any]:
    """A role or its binding for another namespace, without one verb."""
    made = copy.deepcopy(dict(each))
    made["metadata"] = {"name": made["metadata"]["name"], "namespace": namespace}
    if made["kind"].startswith("Cluster"):
        made["metadata"] = {"name": f"{each['metadata']['name']}:{namespace}"}
        if "roleRef" in made:
            made["roleRef"]["name"] += f":{namespace}"
    for subject in made.get("subjects", ()):
        subject["namespace"] = namespace
    if "rules" in made:
        made["rules"] = []
        for group, resource, rule in rules_of(each):
            mine = missing is not None and missing[:3] == (each["metadata"]["name"], group, resource)
            verbs = [verb for verb in rule["verbs"] if not (missing and mine and verb == missing.verb)]
            if verbs:
                made["rules"].append({**rule, "verbs": verbs})
    return made


@dataclass
class Release:
    """What a set of values renders, as far as it matters here."""

    objects: chart.Objects

    @property
    def account(self) -> str:
        """The service account of the pods."""
        return chart.one(self.objects, "ServiceAccount")["metadata"]["name"]

    @property
    def flags(self) -> list[str]:
        """The words that the runtime is started with."""
        return chart.container(self.objects)["args"][1:]

    @property
    def roles(self) -> chart.Objects:
        """Roles and bindings."""
        return [each for each in self.objects if each["kind"] in ROLES]

    @property
    def verbs(self) -> list[Verb]:
        """Every verb of every role."""
        return verbs_of(self.objects)


@dataclass
class Traffic:
    """What was asked in this process, and every refusal that the API server has answered, by the namespace of who asked."""

    asked: set[tuple[str, str, str]] = field(default_factory=set)
    refused: set[tuple[str, str, str]] = field(default_factory=set)

    def note_request(self, namespace: str, asked: Asked) -> None:
        """What is asked as the service account of a namespace."""
        resource = f"{asked.kind.plural}/{asked.subresource}" if asked.subresource else asked.kind.plural
        self.asked.add((namespace, asked.verb, resource))

    def note(self, status: int, body: Mapping[str, Any]) -> None:
        """An answer of the API server that is an error."""
        if status == 403:
            found = _SAID.search(str(body.get("message")))
            assert found is not None, body
            self.refused.add((found[1], found[2], found[3]))

    def asked_by(self, namespace: str) -> set[tuple[str, str]]:
        """Verbs and resources that were asked for; without the account's own rights, which the trial asks for."""
        found = {(verb, resource) for of, verb, resource in self.asked if of == namespace}
        return found - {("create", ACCESS_REVIEWS.plural)}

    def refused_to(self, namespace: str) -> set[tuple[str, str]]:
        """Verbs and resources that were refused."""
        return {(verb, resource) for of, verb, resource in self.refused if of == namespace}


@dataclass
class Tried:
    """A release in a namespace of its own, with a verb less than it has, or with all."""

    missing: Verb | None
    release: Release
    admin: KubeClient
    server: KubernetesClient
    folder: Path
    namespace: str = field(default_factory=lambda: f"verb-{uuid.uuid4().hex[:8]}")
    instance: Instance | None = None
    problem: str = ""
    """Why it did not start."""
    answer: str = ""
    """What an app was told last."""
    _log: io.BytesIO = field(default_factory=io.BytesIO)

    @property
    def _kubeconfig(self) -> Path:
        return self.folder / f"{self.namespace}.conf"

    @property
    def settings(self) -> Settings:
        """What the chart starts the runtime with."""
        return check(parse(self.release.flags).settings())

    @property
    def lacks(self) -> str:
        """`Verb.name` of the missing one; empty: none is missing."""
        return self.missing.name if self.missing else ""

    def lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in self._log.getvalue().splitlines()]

    async def create(self, *objects: Mapping[str, Any]) -> None:
        """Make objects in the namespace, or of the cluster."""
        scoped = [(_KINDS[each["kind"]], dict(each)) for each in objects]
        await asyncio.gather(
            *(
                self.admin.create(kind, each, "" if kind.kind.startswith(("Cluster", "Namespace")) else self.namespace)
                for kind, each in scoped
            )
        )

    async def prepare(self, *objects: Mapping[str, Any]) -> None:
        """The namespace with these objects, and what the service account may do; waits until the API server knows it."""
        await self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        await self.create(
            *(
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
                for name in (self.release.account, "mailer", "runner")
            )
        )
        roles = [_moved(each, self.namespace, self.missing) for each in self.release.roles]
        await self.create(*objects, *roles)
        text = kubeconfig(self.server.address, self.server.ca, await self.token(self.release.account), self.namespace)
        self._kubeconfig.write_text(text, encoding="utf-8")
        await self._wait_for_rights(roles)

    async def give_back(self) -> None:
        """Give what was missing."""
        for each in self.release.roles:
            if "rules" in each:
                made = _moved(each, self.namespace, None)
                name, namespace = made["metadata"]["name"], made["metadata"].get("namespace", "")
                await self.admin.patch(ROLES[each["kind"]], name, {"rules": made["rules"]}, namespace)

    async def remove(self) -> None:
        """Delete the namespace and what was made of the cluster."""
        for each in self.release.roles:
            if each["kind"].startswith("Cluster"):
                await self.admin.delete(ROLES[each["kind"]], f"{each['metadata']['name']}:{self.namespace}")
        await self.admin.delete(NAMESPACES, self.namespace)

    async def token(self, account: str, audience: str = "", *, pod: str = "") -> str:
        """A token of a service account of the namespace, bound to a pod if one is named."""
        spec: dict[str, Any] = {"audiences": [audience] if audience else [], "expirationSeconds": 3600}
        if pod:
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod}
        asked = Asked("create", SERVICE_ACCOUNTS, self.namespace, account, "token")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        headers = {"Content-Type": "application/json"}
        answer = await self.admin._connection.ask(Request("POST", asked, {}, headers, body))
        return answer["status"]["token"]

    async def start(self, stack: AsyncExitStack, turn: asyncio.Lock) -> None:
        """Start the instance as the chart's pod does, as this service account. `turn`: the environment is one for all."""
        (port,) = free_ports(1)
        settings = msgspec.structs.replace(
            self.settings,
            dapr_http_port=0,
            dapr_grpc_port=0,
            dapr_public_port=0,
            dapr_internal_grpc_port=port,
            dapr_internal_grpc_listen_address="127.0.0.1",
            dapr_listen_addresses=("127.0.0.1",),
            enable_metrics=False,
            apps=(),
            data_dir=str(self.folder / self.namespace),
        )
        logs = stack.enter_context(Logs(LogOptions(as_json=True), stream=self._log))
        async with turn:
            os.environ["KUBECONFIG"] = str(self._kubeconfig)
            try:
                configuration = await read_cluster_configuration(settings, print)
                events = Events(DaprMetrics(), logs.logger)
                instance = Instance(settings, configuration, events, logs, embedded=False, stop=lambda _force: None)
                await stack.enter_async_context(instance.running())
            except ClusterError as error:
                self.problem = str(error)
            else:
                self.instance = instance

    async def _wait_for_rights(self, roles: chart.Objects) -> None:
        """The API server hears of roles a little later: until then all would be refused."""
        async with AsyncExitStack() as stack:
            client = KubeClient.from_environment({"KUBECONFIG": str(self._kubeconfig)})
            await client.start(stack)
            for role in roles:
                if role.get("rules"):
                    await self._wait_for_right(client, role["rules"][-1])

    async def _wait_for_right(self, client: KubeClient, rule: Mapping[str, Any]) -> None:
        if "nonResourceURLs" in rule:
            what = {"nonResourceAttributes": {"path": rule["nonResourceURLs"][0], "verb": rule["verbs"][0]}}
        else:
            resource, _, subresource = rule["resources"][0].partition("/")
            names = rule.get("resourceNames") or [""]
            attributes = {"group": rule["apiGroups"][0], "resource": resource, "subresource": subresource}
            more = {"namespace": self.namespace, "verb": rule["verbs"][0], "name": names[0]}
            what = {"resourceAttributes": {**attributes, **more}}
        body = {"apiVersion": ACCESS_REVIEWS.api_version, "kind": ACCESS_REVIEWS.kind, "spec": what}

        async def allowed() -> bool:
            return bool((await client.create(ACCESS_REVIEWS, body))["status"]["allowed"])

        await until(allowed, f"the role of {self.namespace}")


async def until(condition: Any, what: str, seconds: float = 40.0) -> None:
    """Wait for a condition, plain or a coroutine function."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        found = condition()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert loop.time() < end, f"waited {seconds:g} s for {what}"
        await asyncio.sleep(0.1)
