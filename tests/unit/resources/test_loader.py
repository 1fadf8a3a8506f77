"""Files, directories, documents that are skipped, and everything that is wrong at once."""

import os
from pathlib import Path

import pytest

from dapr_shared.resources.errors import one_line
from dapr_shared.resources.loader import MAX_FILE_BYTES, ResourceError, ResourceErrors, Resources, combine, load
from tests.support.resource_files import APP_HEAD, COMPONENT_HEAD, errors_of, load_text

COMPONENT = COMPONENT_HEAD + "spec: {type: state.x}\n"


def named(name: str, text: str = COMPONENT) -> str:
    return text.replace("store", name)


def failing(*paths: Path, **options: object) -> list[str]:
    with pytest.raises(ResourceErrors) as caught:
        load(paths, **options)  # type: ignore[arg-type]
    return [str(error) for error in caught.value.errors]


def test_a_directory_is_read_in_order_and_not_deep(tmp_path: Path) -> None:
    """All *.yaml and *.yml files in any case, by name; other files and subdirectories are left alone."""
    (tmp_path / "b.YML").write_text(named("b"))
    (tmp_path / "a.yaml").write_text(named("a1") + "---\n" + named("a2"))
    (tmp_path / "c.json").write_text("{")
    (tmp_path / "sub.yaml").mkdir()
    (tmp_path / "sub.yaml" / "d.yaml").write_text("{")
    assert [found.name for found in load([tmp_path]).components] == ["a1", "a2", "b"]


def test_a_file_is_read_once(tmp_path: Path) -> None:
    """A file that is named twice, by itself, by its directory and by a link, is read once."""
    (tmp_path / "a.yaml").write_text(COMPONENT)
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    assert len(load([tmp_path, tmp_path / "a.yaml"]).components) == 1


def test_a_config_map_directory_is_read_through_its_links(tmp_path: Path) -> None:
    """A mounted ConfigMap (files that are links into ..data, itself a link) gives each file once."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "a.yaml").write_text(COMPONENT)
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert [found.name for found in load([tmp_path]).components] == ["store"]


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing path, an empty directory, an empty file, a pipe and a name that is a directory's are told all at once."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.yaml").write_text("# nothing here\n")
    os.mkfifo(tmp_path / "pipe.yaml")
    paths = [tmp_path / name for name in ("missing", "empty", "empty.yaml", "pipe.yaml")]
    assert failing(*paths) == [
        f"{paths[0]}: does not exist",
        f"{paths[1]}: is a directory without *.yaml or *.yml files",
        f"{paths[2]}: is empty: a file of resources has at least one document",
        f"{paths[3]}: is not a file or a directory",
    ]
    assert load(paths[1:3], allow_empty=True) == Resources()


def test_an_unreadable_file_is_told_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the system says when a file is opened is in the error, and other files are read on."""
    file = tmp_path / "a.yaml"
    file.write_text(COMPONENT)
    monkeypatch.setattr(Path, "open", lambda *_a, **_k: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert failing(file) == [f"{file}: cannot be read: Permission denied"]


def test_text_that_is_not_utf_8_and_files_that_are_too_large(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are told with their line, a file over the limit with the limit."""
    latin, large = tmp_path / "latin.yaml", tmp_path / "large.yaml"
    latin.write_bytes(COMPONENT.encode() + b"# caf\xe9\n")
    large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert failing(latin, large) == [
        f"{latin}, line 5: is not UTF-8 text: invalid continuation byte",
        f"{large}: is larger than 4 MiB",
    ]


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    """A file that begins with a UTF-8 byte order mark is read."""
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + COMPONENT.encode())
    assert len(load([file]).components) == 1


def test_all_errors_of_all_files_come_at_once(tmp_path: Path) -> None:
    """One exception has every error of every file, also of documents before a syntax error, in the order of reading."""
    (tmp_path / "a.yaml").write_text(f"{APP_HEAD}spec: {{appID: x}}\n---\n{COMPONENT_HEAD}---\na: [\n")
    (tmp_path / "b.yaml").write_text("- 1\n")
    with pytest.raises(ResourceErrors) as caught:
        load([tmp_path])
    assert str(caught.value).replace(str(tmp_path), "F") == (
        "the resources have 4 errors:\n"
        "  F/a.yaml, document 1, line 4: spec.appID: unknown field; did you mean appId?\n"
        "  F/a.yaml, document 2, line 6: spec.type: is required: a text\n"
        "  F/a.yaml, document 3, line 11: is not valid YAML: did not find expected node content, "
        "while parsing a flow node that began in line 11\n"
        "  F/b.yaml, document 1, line 1: is not a resource: expected a mapping with apiVersion, kind, metadata and spec"
    )
    told = one_line(caught.value)
    assert told.startswith("the resources have 4 errors: ")
    assert told.count("; ") == 4  # three between the four errors, one within the first
    assert "\n" not in told
    first = caught.value.errors[0]
    assert isinstance(first, ResourceError)
    assert (first.origin.document, first.origin.line, first.field) == (1, 4, "spec.appID")


def test_the_number_of_errors_is_bounded(tmp_path: Path) -> None:
    """A file with very many mistakes gives the first ones and stays quick."""
    text = "---\n".join(named(f"s{i}", COMPONENT_HEAD) for i in range(3000))
    with pytest.raises(ResourceErrors) as caught:
        load_text(tmp_path, text)
    assert len(caught.value.errors) == 1000
    assert str(caught.value).endswith("\n  and 900 more")
    assert len(errors_of(tmp_path, f"{COMPONENT_HEAD}spec: {{type: a.b}}\nscopes: [{'[],' * 500}]\n")) == 100


def test_what_is_not_ours_is_skipped_and_told(tmp_path: Path) -> None:
    """Documents without kind, of other groups and other versions are skipped as in Dapr, each with a notice."""
    text = (
        "a: 1\n---\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n---\n"
        "apiVersion: dapr.io/v1\nkind: Component\n---\napiVersion: dapr.io/v1alpha1\nkind: Componnet\n---\n"
        "kind: App\napiVersion: app.k8s.io/v1beta1\n"
    )
    resources = load_text(tmp_path, text)
    assert [str(notice).removeprefix(f"{tmp_path}/") for notice in resources.notices] == [
        "res.yaml, document 1, line 1: kind: is missing: the document is skipped",
        'res.yaml, document 3, line 4: kind: "Deployment" of "apps/v1" is not a kind that is read here',
        (
            "res.yaml, document 4, line 8: apiVersion: expected dapr.io/v1alpha1 for the kind Component, "
            'found "dapr.io/v1"'
        ),
        (
            'res.yaml, document 5, line 11: kind: "Componnet" of "dapr.io/v1alpha1" is not a kind that is read here; '
            "did you mean Component?"
        ),
        'res.yaml, document 6, line 14: kind: "App" of "app.k8s.io/v1beta1" is not a kind that is read here',
    ]


def test_only_the_kinds_asked_for_are_read(tmp_path: Path) -> None:
    """With `kinds`, errors in resources of other kinds do not matter."""
    text = f"{APP_HEAD}spec: []\n---\n{COMPONENT}"
    assert len(load_text(tmp_path, text, kinds={"Component"}).components) == 1


def test_namespaces(tmp_path: Path) -> None:
    """A resource is left out only if both it and the loader name a namespace and they differ."""
    text = "---\n".join(
        [
            named("none"),
            named("a", COMPONENT.replace("store", "store, namespace: a")),
            named("b", COMPONENT.replace("store", "store, namespace: b")),
        ]
    )

    def loaded(**options: object) -> list[tuple[str, str]]:
        return [(found.name, found.namespace) for found in load_text(tmp_path, text, **options).components]

    assert loaded() == [("none", "default"), ("a", "a"), ("b", "b")]
    assert loaded(namespace="a") == [("none", "a"), ("a", "a")]
    assert loaded(as_namespace="z") == [("none", "z"), ("a", "z"), ("b", "z")]
    assert loaded(namespace="b", as_namespace="b") == [("none", "b"), ("b", "b")]


# Conflicts ---------------------------------------------------------------------------------------------------------
def of_kind(kind: str, name: str, rest: str = "", version: str = "v1alpha1") -> str:
    return f"apiVersion: dapr.io/{version}\nkind: {kind}\nmetadata: {{name: {name}}}\n{rest}\n---\n"


def test_two_resources_of_one_name_that_one_app_would_see(tmp_path: Path) -> None:
    """Same kind, namespace and name is an error that names both places; different scopes or namespaces are not."""
    spec = "spec: {pubsubname: p, topic: t}"
    text = (
        of_kind("Configuration", "c")
        + of_kind("Configuration", "c")
        + of_kind("Subscription", "s", f"{spec}\nscopes: [a]")
        + of_kind("Subscription", "s", f"{spec}\nscopes: [b]")
        + of_kind("Subscription", "s", f"{spec}\nscopes: [c, b]")
        + of_kind("Resiliency", "r", "scopes: [a]")
        + of_kind("Resiliency", "r")
        + of_kind("HTTPEndpoint", "r", "spec: {baseUrl: 'http://x'}")
    )
    assert [error.replace(str(tmp_path), "F") for error in errors_of(tmp_path, text)] == [
        (
            "res.yaml, document 2, line 6: metadata.name: the Configuration c in namespace default is defined already: "
            "F/res.yaml, document 1, line 1"
        ),
        (
            "res.yaml, document 5, line 23: metadata.name: the Subscription s in namespace default is defined already: "
            "F/res.yaml, document 4, line 17"
        ),
        (
            "res.yaml, document 7, line 34: metadata.name: the Resiliency r in namespace default is defined already: "
            "F/res.yaml, document 6, line 29"
        ),
    ]


def test_components_of_one_name_are_left_to_the_registry(tmp_path: Path) -> None:
    """Two components of one name are both kept: whether an app sees both is decided where apps are known."""
    assert len(load_text(tmp_path, f"{COMPONENT}---\n{COMPONENT}").components) == 2


def app(name: str, spec: str = "{}", namespace: str = "default") -> str:
    head = APP_HEAD.replace("orders", f"{name}, namespace: {namespace}")
    return f"{head}spec: {spec}\n---\n"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (app("a") + app("a"), ["metadata.name: the name a in namespace default belongs to the app a.default already"]),
        (
            app("a", "{appId: x}") + app("b", "{appId: x}"),
            ["spec.appId: the app id x in namespace default belongs to the app x.default already"],
        ),
        (app("a") + app("a", namespace="other"), []),
        (
            app("a", "{listeners: {httpPort: 80}}") + app("b", "{listeners: {grpcPort: 80}}", "other"),
            ["spec.listeners.grpcPort: the port 80 belongs to the app a.default already"],
        ),
        (
            app("a", "{listeners: {unixSocket: /s}}") + app("b", "{listeners: {unixSocket: /s}}"),
            ["spec.listeners.unixSocket: the socket /s belongs to the app a.default already"],
        ),
        (
            app("a", f"{{tokens: [{{sha256: {'ab' * 32}}}]}}") + app("b", f"{{tokens: [{{sha256: {'AB' * 32}}}]}}"),
            ["spec.tokens[0]: the token belongs to the app a.default already"],
        ),
        (
            app("a", "{tokens: [{envRef: T}]}") + app("b", "{tokens: [{envRef: S}, {envRef: T}]}"),
            ["spec.tokens[1]: the token belongs to the app a.default already"],
        ),
        (app("a", "{tokens: [{envRef: T}, {envRef: T}]}"), []),
    ],
)
def test_what_only_one_app_can_have(tmp_path: Path, text: str, messages: list[str]) -> None:
    """Name, app id, listeners and tokens belong to one app; the error names both places and never the token."""
    if not messages:
        assert load_text(tmp_path, text).apps
        return
    found = [error.split(": ", 1)[1].replace(str(tmp_path), "F") for error in errors_of(tmp_path, text)]
    assert found == [f"{message}: F/res.yaml, document 1, line 1" for message in messages]


def test_sets_are_combined_with_the_same_checks(tmp_path: Path) -> None:
    """Sets loaded by themselves become one in order; what excludes each other across them is an error."""
    one = load_text(tmp_path, app("a", "{appId: x}"), file="one.yaml")
    two = load_text(tmp_path, COMPONENT, file="two.yaml")
    both = combine([one, two])
    assert (both.apps, both.components) == (one.apps, two.components)
    with pytest.raises(ResourceErrors, match="the app id x in namespace default belongs to the app"):
        combine([one, load_text(tmp_path, app("b", "{appId: x}"), file="three.yaml")])
