"""What `validate --mode kubernetes` finds in manifests, without an API server."""

from __future__ import annotations

import io
import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from dapr_shared.runtime.validation.cluster import namespace_problem, validate_cluster
from dapr_shared.runtime.validation.manifests import manifests_problem
from tests.support.kubernetes_instance import annotated, memory, of_dapr, pod, service

DIGEST = sha256(b"a long and random token, 9f2c").hexdigest()
REDIS = {
    "type": "state.redis", "version": "v1",
    "metadata": [
        {"name": "redisHost", "value": "redis:6379"},
        {"name": "redisPassword", "secretKeyRef": {"name": "redis", "key": "password"}},
    ],
}  # fmt: skip


def app(name: str, namespace: str = "", **spec) -> dict:
    given = {"tokens": [{"sha256": sha256(f"{namespace}/{name} 9f2c-{name}".encode()).hexdigest()}], **spec}
    return placed(
        {"apiVersion": "shared.dapr.io/v1alpha1", "kind": "App", "metadata": {"name": name}, "spec": given}, namespace
    )


def placed(item: dict, namespace: str) -> dict:
    return {**item, "metadata": {**item["metadata"], "namespace": namespace}} if namespace else item


def workload(kind: str, name: str, *around: str, **annotations: str) -> dict:
    """What makes Pods with these annotations, below these fields of its `spec`."""
    spec: dict = {"metadata": pod(name, **annotations)["metadata"], "spec": {"containers": []}}
    for field in reversed(around):
        spec = {field: spec}
    return {
        "apiVersion": "batch/v1" if "Job" in kind else "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def of_values(*apps: dict, name: str = "my-apps") -> str:
    """The ConfigMap that the chart makes of the `apps` of its values, as it renders it."""
    text = "".join(f"---\n{yaml.safe_dump(each)}" for each in apps)
    lines = "".join(f"    {line}\n" for line in f"# The apps.\n{text}".splitlines())
    return (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  labels: {{shared.dapr.io/instance: my}}\n"
        f"data:\n  apps.yaml: |\n{lines}"
    )


def line_of(problem) -> str:
    return Path(problem.file).read_text(encoding="utf-8").splitlines()[problem.line - 1]


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Validates objects; each problem as (severity, object, field, problem), in the order of the file."""
    monkeypatch.chdir(tmp_path)

    def run(*objects: dict | str, namespace: str = "shop"):
        texts = [each if isinstance(each, str) else yaml.safe_dump(each, sort_keys=False) for each in objects]
        (tmp_path / "all.yaml").write_text("---\n".join(texts), encoding="utf-8")
        run.report = validate_cluster([tmp_path / "all.yaml"], namespace)
        return [(p.severity.value, p.object, p.field, p.problem) for p in run.report.problems]

    return run


def test_what_is_right_has_no_problem(check):
    """Every kind that a cluster has, in the forms that are applied, is right; what is not read is counted."""
    configuration = of_dapr("Configuration", "limits", {})
    orders = of_dapr("Subscription", "orders", {"pubsubname": "broker", "topic": "t", "routes": {"default": "/o"}})
    old = {**orders, "apiVersion": "dapr.io/v1alpha1", "spec": {"pubsubname": "broker", "topic": "t", "route": "/o"}}
    found = check(
        app("tea", configuration="limits", channel={"port": 80, "address": "tea"}),
        configuration,
        {**orders, "scopes": ["tea", "runner", "listed"]},
        placed(old, "other"),
        placed(of_dapr("Component", "broker", {"type": "pubsub.in-memory", "version": "v1", "metadata": []}), "other"),
        of_dapr("Component", "broker", {"type": "pubsub.in-memory", "version": "v1", "metadata": []}),
        of_dapr("Component", "store", REDIS),
        of_dapr("HTTPEndpoint", "web", {"baseUrl": "https://example.org"}),
        of_dapr("Resiliency", "hard", {"policies": {}, "targets": {}}),
        service("listed", app_id="listed", app_port="80", config="limits"),
        workload("Deployment", "runner", "template", app_id="runner", app_port="80"),
        workload("CronJob", "nightly", "jobTemplate", "spec", "template", app_id="nightly"),
        workload("Deployment", "plain", "template"),
        service("sidecar", {"dapr.io/enabled": "true"}, app_id="x", app_port="80"),
        service("ours", {"shared.dapr.io/instance": "my"}, app_id="y", app_port="80"),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis"}, "data": {}},
    )
    assert found == []
    assert check.report.resources == {
        "annotated Service": 1, "annotated Deployment": 1, "annotated CronJob": 1, "App": 1, "Component": 3,
        "Configuration": 1, "HTTPEndpoint": 1, "Subscription": 2, "Resiliency": 1,
    }  # fmt: skip
    assert check.report.ignored == {"Secret": 1, "Deployment": 1, "Service": 2}


@pytest.mark.parametrize(
    ("item", "field", "words"),
    [
        (app("tea", tokens=[{"envRef": "TOKEN"}]), "spec.tokens[0].envRef", "use secretKeyRef"),
        (app("tea", configuration="limits"), "spec.configuration", "no Configuration 'limits' in namespace shop"),
        (app("tea", chanel={"port": 1}), "spec.chanel", "channel"),
        (of_dapr("Component", "store", {"type": "state.redi", "version": "v1"}), "spec.type", "did you mean state.redis"),
        (memory("My_Store"), "metadata.name", "'My_Store' is no name in a cluster"),
        (placed(memory("store"), "Shop"), "metadata.namespace", "'Shop' is no namespace"),
        ({**memory("store"), "apiVersion": "dapr.io/v2"}, "apiVersion", "dapr.io/v1alpha1"),
        (of_dapr("Component", "store", REDIS, auth={"secretStore": "vault"}), "auth.secretStore", "no secret store 'vault'"),
        (service("tea", app_id="tea", app_port="http"), "metadata.annotations[dapr.io/app-port]", "not a whole number"),
        (service("tea", app_id="a b"), "metadata.annotations[dapr.io/app-id]", "is not an app id"),
        (service("tea", app_id="tea", app_port=80), "metadata.annotations[dapr.io/app-port]", "put it in quotes"),
        (service("tea", app_id="tea", config="x"), "metadata.annotations[dapr.io/config]", "no Configuration 'x'"),
        (
            workload("StatefulSet", "tea", "template", app_id="tea", app_protocol="x"),
            "spec.template.metadata.annotations[dapr.io/app-protocol]", "'x' is not one of http",
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_object_and_field(check, item, field, words):
    """A mistake is an error with the object, the field and its line, and what was expected."""
    ((severity, name, found, problem),) = check(memory("fine"), item)
    namespace = item["metadata"].get("namespace", "shop")
    assert (severity, name, found) == ("error", f"{item['kind']} {namespace}/{item['metadata']['name']}", field)
    assert words in problem
    (told,) = check.report.problems
    assert told.document == 2
    key = field.partition("[dapr.io/")[2].rstrip("]") or re.sub(r"\[\d+\]", "", field).rpartition(".")[2]
    assert key in line_of(told)


def test_namespaces(check):
    """Names are looked up in the namespace of each object; `-n` is that of objects that name none."""
    configuration = of_dapr("Configuration", "limits", {})
    assert check(app("tea", configuration="limits"), placed(configuration, "shop"), namespace="shop") == []
    ((_, name, field, problem),) = check(
        app("tea", configuration="limits"), placed(configuration, "shop"), namespace="dev"
    )
    assert (name, field) == ("App dev/tea", "spec.configuration")
    assert "in namespace dev" in problem
    assert check(app("tea", "a"), app("tea", "b")) == [], "the same app id in two namespaces is two apps"


def test_secrets_are_there(check):
    """In a cluster the store `kubernetes` is that of resources that name none."""
    tokens = [{"secretKeyRef": {"name": "tea-token", "key": "token"}}]
    assert check(of_dapr("Component", "store", REDIS), app("tea", tokens=tokens)) == []


def test_nothing_is_built_in(check):
    """A cluster has no broker that no Component describes, unlike an instance of files."""
    orders = of_dapr("Subscription", "orders", {"pubsubname": "pubsub", "topic": "t", "routes": {"default": "/o"}})
    ((severity, _, field, problem),) = check(orders)
    assert (severity, field) == ("warning", "spec.pubsubname")
    assert "no pubsub component 'pubsub'" in problem


def test_which_description_counts(check):
    """An App counts before the values of a release, these before a Service, that before Pods: what says otherwise is told."""
    both = app("tea", "shop", channel={"port": 80, "address": "tea"})
    values = app("tea", "shop", tokens=both["spec"]["tokens"], channel={"port": 81, "address": "tea"})
    found = check(
        workload("Deployment", "tea", "template", app_id="tea", app_port="80", app_protocol="grpc"),
        service("tea", app_id="tea", app_port="82"),
        of_values(values),
        both,
    )
    assert [(severity, name) for severity, name, *_ in found] == [
        ("warning", "Deployment shop/tea"), ("warning", "Service shop/tea"), ("warning", "App shop/tea"),
    ]  # fmt: skip
    assert [problem.partition(", which counts, ")[2] for *_, problem in found] == [
        f"with another {what}: make both say the same, or leave it to one" for what in ("protocol", "port", "port")
    ]
    assert all("is described by App shop/tea" in problem for *_, problem in found)
    assert (
        check(
            service("tea", app_id="tea", app_port="80"),
            workload("Deployment", "x", "template", app_id="tea", app_port="8080"),
        )
        == []
    )


def test_one_app_twice(check):
    """Two Services, or two Apps, of one app are an error at the later; so are two objects of one name."""
    ((severity, name, field, problem),) = check(service("one", app_id="tea"), service("two", app_id="tea"))
    assert (severity, name, field) == ("error", "Service shop/two", "metadata.annotations[dapr.io/app-id]")
    assert "the app tea.shop is described already by Service shop/one" in problem
    ((_, name, field, problem),) = check(app("one", appId="tea"), app("two", appId="tea"))
    assert (name, field) == ("App shop/two", "spec.appId")
    ((_, name, field, problem),) = check(memory("store", scopes=["a"]), memory("store", scopes=["b"]))
    assert (name, field) == ("Component shop/store", "metadata.name")
    assert "all.yaml:1: whichever is applied last replaces the other" in problem


def test_what_proves_two_apps(check):
    """A token, Secret or service account of two apps is told; Secrets of one name in two namespaces are two."""
    secret = [{"secretKeyRef": {"name": "token", "key": "token"}}]
    ((severity, name, field, problem),) = check(app("a", tokens=secret), app("b", tokens=secret))
    assert (severity, name, field) == ("error", "App shop/b", "spec.tokens[0]")
    assert problem == "the token in token/token belongs to the app a.shop already: each app needs its own"
    assert check(app("a", "left", tokens=secret), app("a", "right", tokens=secret)) == []
    ((_, name, _, problem),) = check(app("a", tokens=[{"sha256": DIGEST}]), app("b", tokens=[{"sha256": DIGEST}]))
    assert name == "App shop/b"
    assert DIGEST not in problem
    found = check(app("a", serviceAccount="runner"), app("b", serviceAccount="runner"))
    assert [(severity, name) for severity, name, *_ in found] == [("warning", "App shop/a"), ("warning", "App shop/b")]
    annotated_twice = check(
        service("a", app_id="a", api_token_secret="t"), service("b", app_id="b", api_token_secret="t")
    )
    assert [field for _, _, field, _ in annotated_twice] == ["metadata.annotations[dapr.io/api-token-secret]"]


def test_who_can_call(check):
    """An App without evidence is a warning, unless a service account or the annotation of its Pods proves it."""
    ((severity, name, field, problem),) = check(app("tea", tokens=[]))
    assert (severity, name, field) == ("warning", "App shop/tea", "spec")
    assert "no Pod here has its app id as an annotation" in problem
    assert "dapr-shared token new tea" in problem
    assert check(app("tea", tokens=[], serviceAccount="tea")) == []
    assert check(app("tea", tokens=[]), workload("Deployment", "x", "template", app_id="tea")) == []


def test_apps_of_values(check):
    """The Apps in the ConfigMap of a release are read, with their lines in the file; variables may be named there."""
    assert check(of_values(app("tea", "shop", tokens=[{"envRef": "TOKEN"}]))) == []
    assert check.report.resources == {"App of values": 1}
    wrong = app("tea", "shop", tokens=[{"sha256": "zz"}])
    ((_, name, field, _),) = check(memory("store"), of_values(app("fine", "shop"), wrong))
    assert (name, field) == ("App shop/tea", "spec.tokens[0].sha256")
    (told,) = check.report.problems
    assert "zz" in line_of(told)
    ((_, name, field, _),) = check(of_values().replace("# The apps.", "a: [b"))
    assert field == "data[apps.yaml]"


def test_lists_and_json(check, tmp_path):
    """A List is taken apart, also as JSON, each object with its own name and line."""
    items = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [memory("fine"), of_dapr("Component", "bad", {"type": "x", "version": "v1"})],
    }
    ((_, name, field, _),) = check(items)
    assert (name, field) == ("Component shop/bad", "spec.type")
    (told,) = check.report.problems
    assert "type: x" in line_of(told)
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "a.json").write_text(json.dumps(items, indent=1), encoding="utf-8")
    (folder / "below" / "b.yaml").write_text("no: [", encoding="utf-8")
    report = validate_cluster([folder], "shop")
    assert [(p.object, p.field) for p in report.problems] == [("Component shop/bad", "spec.type")]
    assert report.files == [str(folder / "a.json")], "folders below are left out, as by kubectl"
    (folder / "a.json").write_text(json.dumps(items), encoding="utf-8")
    assert [p.object for p in validate_cluster([folder], "shop").problems] == [""], (
        "on one line nobody knows whose it is"
    )


def test_standard_input(monkeypatch):
    """`-` is standard input."""
    text = yaml.safe_dump(app("tea", tokens=[{"envRef": "X"}])).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    (problem,) = validate_cluster([Path("-")], "shop").problems
    assert (problem.file, problem.object) == ("-", "App shop/tea")
    assert problem.line > 1


@pytest.mark.parametrize("text", ["- 1\n", "a: 1\n", "kind: App\n", "text\n"])
def test_what_is_no_object(check, text):
    """A document that is no object of a cluster is an error."""
    ((severity, name, _, problem),) = check(text)
    assert (severity, name) == ("error", "")
    assert "is no object of a cluster: expected a mapping with apiVersion, kind and metadata" in problem


def test_files_that_are_none(tmp_path):
    """A path with nothing to read is said in one line, with what to do."""
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    (tmp_path / "none").mkdir()
    assert "is empty" in manifests_problem(tmp_path / "empty.yaml")
    assert "holds no file that ends in .json, .yaml, .yml" in manifests_problem(tmp_path / "none")
    assert "does not exist" in manifests_problem(tmp_path / "nowhere")
    assert manifests_problem(tmp_path) == ""
    (tmp_path / "broken.yaml").write_text("a: [\n", encoding="utf-8")
    assert manifests_problem(tmp_path / "broken.yaml") == ""
    (problem,) = validate_cluster([tmp_path / "broken.yaml"]).problems
    assert "is not valid YAML" in problem.problem
    assert namespace_problem("a-b") == ""
    assert "is no namespace" in namespace_problem("A b")


def test_nothing_is_opened(check, tmp_path):
    """Checking opens no component and makes no file."""
    before = sorted(tmp_path.iterdir())
    item = of_dapr(
        "Component",
        "files",
        {"type": "state.sqlite", "version": "v1", "metadata": [{"name": "connectionString", "value": "x.db"}]},
    )
    assert check(item) == []
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "all.yaml"])


def test_no_secret_is_told(check):
    """What stands in place of a digest, or in a URL, is not shown."""
    found = check(
        app("tea", tokens=[{"sha256": "a-token-by-mistake"}]),
        of_dapr("HTTPEndpoint", "web", {"baseUrl": "ftp://user:hush@example.org"}),
        annotated("Service", "x", {}, app_id="x"),
    )
    assert len(found) == 2
    assert "a-token-by-mistake" not in str(found)
    assert "hush" not in str(found)
