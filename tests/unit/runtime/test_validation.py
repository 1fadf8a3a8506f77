"""What `validate` finds in files, without opening anything."""

from __future__ import annotations

from hashlib import sha256

import pytest

from dapr_shared.resources.places import FieldPlaces
from dapr_shared.runtime.validation.check import validate

DIGEST = sha256(b"a long and random token, 9f2c").hexdigest()
APP = f"""\
apiVersion: shared.dapr.io/v1alpha1
kind: App
metadata: {{name: shop}}
spec:
  tokens: [{{sha256: {DIGEST}}}]
"""
TRACED = """\
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {{name: traced}}
spec:
  tracing:
    {}
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Validates documents given as texts; each problem as (severity, line, field, problem)."""

    def run(*documents: str) -> list[tuple[str, int, str, str]]:
        file = tmp_path / "all.yaml"
        file.write_text("---\n".join(documents), encoding="utf-8")
        report = validate([file])
        assert all(problem.file == str(file) for problem in report.problems)
        return [(p.severity.value, p.line, p.field, p.problem) for p in report.problems]

    monkeypatch.delenv("NOT_SET_ANYWHERE", raising=False)
    return run


def component(name: str, kind: str, *settings: str, more: str = "") -> str:
    lines = ["apiVersion: dapr.io/v1alpha1", "kind: Component", f"metadata: {{name: {name}}}", "spec:"]
    lines += [f"  type: {kind}", "  version: v1"]
    if settings:
        lines += ["  metadata:", *(f"    - {setting}" for setting in settings)]
    return "\n".join([*lines, more]).rstrip() + "\n"


def subscription(pubsub: str, match: str = "") -> str:
    rule = f"    rules: [{{match: {match!r}, path: /a}}]\n" if match else ""
    return (
        "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {name: news}\n"
        f"spec:\n  pubsubname: {pubsub}\n  topic: t\n  routes:\n{rule}    default: /x\n"
    )


def test_what_is_right_has_no_problem(check, tmp_path):
    """Apps, components with secrets from a store, variables and templates, and the built-in pubsub are found right."""
    store = component("vault", "secretstores.local.file", "{name: secretsFile, value: s.json}")
    state = component(
        "store", "state.sqlite", "{name: connectionString, secretKeyRef: {name: a, key: b}}",
        "{name: tableName, value: 'x'}", "{name: keyPrefix, value: name}", more="auth: {secretStore: vault}\nscopes: [shop]",
    )  # fmt: skip
    assert check(APP, store, state, subscription("pubsub")) == []
    report = validate([tmp_path / "all.yaml"])
    assert report.resources == {"App": 1, "Component": 2, "Subscription": 1}


@pytest.mark.parametrize(
    ("documents", "severity", "line", "field", "words"),
    [
        ([APP.replace("tokens", "tokns")], "error", 5, "spec.tokns", "unknown field; did you mean tokens?"),
        ([APP + "  configuration: limits\n"], "error", 6, "spec.configuration", "there is no Configuration 'limits'"),
        ([APP, component("s", "state.sqlit")], "error", 11, "spec.type", "did you mean state.sqlite"),
        ([component("s", "state.in-memory").replace("version: v1", "version: v9")], "error", 6, "spec.version", "has no version 'v9'"),
        (
            [component("s", "state.sqlite", "{name: timeout, value: soon}")],
            "error", 8, "spec.metadata[0].value", "timeout: expected a duration such as 30s",
        ),
        (
            [component("s", "state.sqlite", "{name: tableName, value: x}", "{name: tabelName, value: x}")],
            "warning", 9, "spec.metadata[1].name", "did you mean tableName?",
        ),
        (
            [component("s", "state.in-memory", more="scopes: [shopp]"), APP],
            "warning", 7, "scopes[0]", "there is no App 'shopp', unless it is in files that were not given; did you mean shop?",
        ),
        (
            [component("s", "state.sqlite", "{name: connectionString, secretKeyRef: {name: a}}")],
            "error", 8, "spec.metadata[0].secretKeyRef", "name one in auth.secretStore",
        ),
        (
            [component("s", "state.sqlite", "{name: x, secretKeyRef: {name: a}}", more="auth: {secretStore: vlt}")],
            "error", 9, "auth.secretStore", "there is no secret store 'vlt'",
        ),
        (
            [component("s", "state.sqlite", "{name: connectionString, envRef: NOT_SET_ANYWHERE}")],
            "warning", 8, "spec.metadata[0].envRef", "NOT_SET_ANYWHERE is not set here",
        ),
        ([subscription("pubsbu"), component("pubsub", "pubsub.in-memory")], "warning", 5, "spec.pubsubname", "did you mean pubsub?"),
        ([subscription("pubsub", "event.type ==")], "error", 8, "spec.routes.rules[0].match", "does not compile: line 1, column 14"),
        ([TRACED.format("otel: {endpointAddress: 'h:1', protocol: thrift}")], "error", 6, "spec.tracing.otel.protocol", "'thrift' is not one of http, grpc"),
        ([TRACED.format("otel: {endpointAddress: 'h:1', protocol: grpc, timeout: soon}")], "error", 6, "spec.tracing.otel.timeout", "soon"),
        ([TRACED.format("zipkin: {endpointAddress: 'localhost:9411'}")], "error", 6, "spec.tracing.zipkin.endpointAddress", "is not a URL such as"),
        ([TRACED.format("otel: {}") + "  nameResolution: {component: mdns}\n"], "error", 7, "spec.nameResolution.component", "mdns is not available in this version"),
        ([component("s", "state.in-memory"), component("s", "state.in-memory")], "error", 10, "metadata.name", "the name is taken by"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_line_and_field(check, documents, severity, line, field, words):
    """Each mistake is found once, where it stands, and the line says what was expected."""
    found = check(*documents)
    matching = [one for one in found if one[:3] == (severity, line, field)]
    assert len(matching) == 1, found
    assert words in matching[0][3]


def test_tokens_are_judged_without_being_told(check):
    """A token that is easy to guess and one that two apps share are found; neither digest nor word is shown."""
    weak = sha256(b"shop-token").hexdigest()
    one = APP.replace(DIGEST, weak)
    found = check(one)
    assert [(severity, field) for severity, _, field, _ in found] == [("warning", "spec.tokens[0].sha256")]
    assert "easy to guess; make another: dapr-shared token new shop" in found[0][3]
    found = check(APP, APP.replace("shop", "mail"))
    assert [(severity, field) for severity, _, field, _ in found] == [("error", "spec.tokens[0]")]
    assert weak not in str(found)


def test_urls_of_endpoints_are_not_shown(check):
    """A wrong URL is told without itself: a password may be in it."""
    endpoint = (
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {name: e}\nspec: {baseUrl: 'ftp://u:hunter2@x'}\n"
    )
    [(severity, line, field, problem)] = check(endpoint)
    assert (severity, line, field) == ("error", 4, "spec.baseUrl")
    assert "hunter2" not in problem


def test_resiliency_and_access_control_are_compiled(check):
    """Policies that do not exist, expressions that do not compile and rules that cannot be enforced are errors."""
    resiliency = (
        "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {name: r}\nspec:\n"
        "  policies:\n    circuitBreakers: {cb: {trip: 'requests >'}}\n"
        "  targets:\n    apps:\n      shop: {retry: often}\n"
    )
    found = check(APP, resiliency)
    assert {(severity, field) for severity, _, field, _ in found} == {
        ("error", "spec.policies.circuitBreakers.cb"), ("error", "spec.targets.apps.shop.retry"),
    }  # fmt: skip
    assert {line for _, line, _, _ in found} == {12, 15}
    policy = (
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\nspec:\n"
        "  accessControl: {defaultAction: perhaps}\n"
    )
    [(severity, line, field, _)] = check(policy)
    assert (severity, line, field) == ("error", 5, "spec.accessControl.defaultAction")


def test_nothing_is_opened(check, tmp_path):
    """Validating a state store and a broker makes no file and no connection."""
    path = tmp_path / "data"
    check(component("s", "state.sqlite", f"{{name: connectionString, value: {path}/x.db}}"))
    assert not path.exists()


def test_files_that_are_none(tmp_path):
    """An empty file, broken YAML and a directory without resources are errors with the file's name."""
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "broken.yaml").write_text("a: [1\nb: 2\n")
    (tmp_path / "none").mkdir()
    report = validate([tmp_path, tmp_path / "none"])
    told = {(problem.file.rpartition("/")[2], problem.severity.value) for problem in report.problems}
    assert told == {("empty.yaml", "error"), ("broken.yaml", "error"), ("none", "error")}


def test_places_are_found_or_the_nearest_around(tmp_path):
    """A field's line is that of its key or list entry; of what is absent, of the mapping where it would be."""
    from dapr_shared.resources.origin import Origin

    file = tmp_path / "a.yaml"
    file.write_text("a: 1\n---\nspec:\n  metadata:\n    - name: x\n      value: 1\n    - name: Y\n      value: 2\n")
    places, origin = FieldPlaces(), Origin(str(file), 2, 3)
    assert places.of(origin, "spec.metadata[1].value").line == 8
    assert places.of(origin, "spec.metadata[1].envRef").line == 7
    assert places.of(origin, "SPEC.nothing").line == 3
    assert places.item(origin, "y") == ("spec.metadata[1].value", Origin(str(file), 2, 8))
    assert places.of(Origin("/nonexistent", 1, 5), "spec").line == 5


def test_a_run_file_is_checked_with_what_its_apps_use(tmp_path):
    """A folder with a run file: its fields, the resources of each app, scopes that name one of its apps, and folders."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "a.yaml").write_text(component("store", "state.in-memory", more="scopes: [shop, mial]"))
    (tmp_path / "own" / "b.yaml").write_text(component("store", "state.in-memory"))
    (tmp_path / "dapr.yaml").write_text(
        "version: 1\ncommon: {resourcesPath: common, apPort: 1}\napps:\n"
        "  - {appDirPath: shop, command: [x]}\n"
        "  - {appDirPath: mail, command: [x], resourcesPath: own}\n"
    )

    def told() -> list[tuple[str, str, str]]:
        return [(p.file.rpartition("/")[2], p.severity.value, p.field) for p in validate([tmp_path]).problems]

    assert told() == [("dapr.yaml", "error", "apps[1].appDirPath")]
    (tmp_path / "mail").mkdir()
    assert told() == [("a.yaml", "warning", "scopes[1]"), ("dapr.yaml", "warning", "common.apPort")]
    assert "did you mean mail?" in validate([tmp_path]).problems[0].problem
    assert validate([tmp_path]).resources == {"Component": 2}
