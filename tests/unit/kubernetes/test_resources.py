"""Objects of the API server become resources one by one."""

from __future__ import annotations

import pytest

from dapr_shared.kubernetes.resources import APPS, COMPONENTS, LONGEST_OPENING, SUBSCRIPTIONS, ObjectReader
from dapr_shared.resources.model import App


def data(name: str, spec: dict, *, generation: int = 1, uid: str = "", **top) -> dict:
    """An object as a list of the API server has it: without kind."""
    metadata = {"name": name, "namespace": "shop", "uid": uid or f"uid-{name}", "generation": generation}
    return {"metadata": {**metadata, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec, **top}


STORE = {"type": "state.in-memory", "version": "v1", "metadata": []}
WRONG = {"version": "v1", "metadata": []}


def test_a_wrong_object_stops_no_other():
    """The problem names kind, namespace and name, once, and field; the others are read."""
    read = ObjectReader().read([(COMPONENTS, data("a", STORE)), (COMPONENTS, data("b", WRONG)), (APPS, data("c", {}))])
    assert [(one.created, one.resource.name) for one in read.found] == [
        ("2026-01-01T00:00:00Z", "a"),
        ("2026-01-01T00:00:00Z", "c"),
    ]
    (problem,) = read.problems
    assert (problem.kind, str(problem.origin), problem.kept) == ("Component", "Component shop/b", False)
    assert problem.problem.startswith("spec.type: ")


def test_the_last_good_version_stays():
    """An object that becomes wrong is as it was, until it is mended, deleted, or another of its name has come."""
    reader = ObjectReader()

    def read(*objects):
        found = reader.read([(COMPONENTS, one) for one in objects])
        return [one.resource.type for one in found.found], [each.kept for each in found.problems]

    assert read(data("a", STORE)) == (["state.in-memory"], [])
    assert read(data("a", WRONG, generation=2)) == (["state.in-memory"], [True])
    assert read(data("a", {**STORE, "type": "state.other"}, generation=3)) == (["state.other"], [])
    assert read(data("a", WRONG, uid="another")) == ([], [False])
    assert read() == ([], [])
    assert read(data("a", WRONG, generation=4)) == ([], [False]), "a deleted one leaves nothing"


def test_each_version_is_decoded_once():
    """The same generation is the same resource, whatever its status or labels say."""
    reader = ObjectReader()
    (first,) = reader.read([(APPS, data("a", {}))]).found
    (again,) = reader.read([(APPS, data("a", {}, status={"ready": True}))]).found
    (changed,) = reader.read([(APPS, data("a", {"logLevel": "debug"}, generation=2))]).found
    assert again.resource is first.resource
    assert changed.resource is not first.resource


@pytest.mark.parametrize(
    "spec", [{"tokens": [{"envRef": "PATH"}]}, {"channel": {"port": 1, "apiToken": {"envRef": "PATH"}}}]
)
def test_the_environment_of_the_instance_is_not_the_authors(spec):
    """Who may write an App must not have the variables of the instance by it."""
    read = ObjectReader().read([(APPS, data("a", spec))])
    assert read.found == []
    assert "envRef" in read.problems[0].problem


def test_secrets_are_those_of_the_cluster():
    """A resource that names no secret store means the cluster's Secrets; one that does is left alone."""
    token = {"tokens": [{"secretKeyRef": {"name": "s", "key": "k"}}]}
    found = ObjectReader().read(
        [
            (APPS, data("a", token)),
            (APPS, data("b", token, auth={"secretStore": "vault"})),
            (COMPONENTS, data("c", STORE)),
        ]
    )
    assert [one.resource.secret_store for one in found.found] == ["kubernetes", "vault", "kubernetes"]


def test_opening_is_bounded():
    """A component of one author does not hold up the changes of all others for an hour."""
    (one,) = ObjectReader().read([(COMPONENTS, data("a", {**STORE, "initTimeout": "1h"}))]).found
    assert one.resource.init_timeout == LONGEST_OPENING


def test_subscriptions_of_either_version():
    """Where nobody converts, one that was written as v1alpha1 comes under the name of v2alpha1, and is understood."""
    first = data("a", {"pubsubname": "p", "topic": "t", "route": "/x"})
    second = data("b", {"pubsubname": "p", "topic": "t", "routes": {"default": "/x"}})
    read = ObjectReader().read([(SUBSCRIPTIONS, first), (SUBSCRIPTIONS, second)])
    assert [[rule.path for rule in one.resource.rules] for one in read.found] == [["/x"], ["/x"]]
    assert read.problems == []


def test_an_app_belongs_to_the_namespace_of_its_object():
    """Also its service account does, where no other namespace is named."""
    (one,) = ObjectReader().read([(APPS, data("orders", {"serviceAccount": "orders"}))]).found
    assert isinstance(one.resource, App)
    assert (one.resource.namespace, one.resource.service_account) == ("shop", "shop:orders")
