"""Any text and any data: loading answers or says what is wrong, and never shows a secret."""

import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dapr_shared.resources.diff import diff
from dapr_shared.resources.documents import documents, json_text, plain_data
from dapr_shared.resources.loader import KINDS, ResourceErrors, Resources, load, load_objects
from tests.support.resource_files import load_text

BOUNDED = settings(
    deadline=timedelta(seconds=5),
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
FOLDER = Path(tempfile.gettempdir())

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cn"]), max_size=20)
json_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
FIELDS = [
    "metadata",
    "name",
    "namespace",
    "spec",
    "appId",
    "channel",
    "port",
    "url",
    "protocol",
    "tls",
    "healthCheck",
    "apiToken",
    "tokens",
    "sha256",
    "secretKeyRef",
    "envRef",
    "listeners",
    "httpPort",
    "unixSocket",
    "secrets",
    "scopes",
    "storeName",
    "auth",
    "secretStore",
    "type",
    "version",
    "initTimeout",
    "value",
    "tracing",
    "samplingRate",
    "metrics",
    "http",
    "features",
    "api",
    "allowed",
    "routes",
    "rules",
    "match",
    "path",
    "baseUrl",
    "headers",
    "clientTLS",
    "policies",
]


def any_fields(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    inside = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | texts, inner, max_size=6),
        max_leaves=25,
    )
    return st.dictionaries(st.sampled_from(["metadata", "spec", "auth", "scopes"]), inside)


def outcome(content: bytes, **options: Any) -> Resources | ResourceErrors:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        file = Path(folder) / "any.yaml"
        file.write_bytes(content)
        try:
            return load([file], **options)
        except ResourceErrors as errors:
            return errors


@BOUNDED
@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    """Any bytes load or raise ResourceErrors, nothing else."""
    outcome(content)


@BOUNDED
@given(st.text(st.sampled_from("[]{}&*!|>'\"%@`#-?:, \n\tabc<1$."), max_size=200))
def test_any_marks_of_yaml(text: str) -> None:
    """Any mixture of YAML's own marks loads or raises ResourceErrors, nothing else."""
    outcome(text.encode(), environment={"a": "[", "b": "\udcff"})


@BOUNDED
@given(st.sampled_from(sorted(KINDS)), any_fields(scalars))
def test_any_data_of_any_kind(kind: str, data: dict[str, Any]) -> None:
    """A document of a known kind with anything in its fields loads or raises ResourceErrors, nothing else."""
    document = {"apiVersion": min(KINDS[kind]), "kind": kind, **data}
    outcome(yaml.safe_dump(document, allow_unicode=True).encode(errors="replace"), environment={})


@BOUNDED
@given(st.sampled_from(sorted(KINDS)), any_fields(json_scalars))
def test_any_object_of_any_kind(kind: str, data: dict[str, Any]) -> None:
    """Plain data of a known kind with anything in its fields loads or raises ResourceErrors, nothing else."""
    document = {"apiVersion": min(KINDS[kind]), "kind": kind, **data}
    with suppress(ResourceErrors):
        load_objects([document], source="test")


@BOUNDED
@given(
    st.recursive(
        json_scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=20,
    )
)
def test_json_is_read_as_it_is(value: Any) -> None:
    """JSON is YAML: what msgspec writes is read back, and its JSON text means the same again."""
    (document,) = documents(msgspec.json.encode({"v": value}))
    found = plain_data(document.root)["v"]
    assert found == value
    if not isinstance(value, str | None):
        assert msgspec.json.decode(json_text(found)) == pytest.approx(value) if isinstance(value, float) else True


@BOUNDED
@given(st.text(max_size=30))
def test_a_value_of_metadata_survives(value: str) -> None:
    """Any text that YAML can hold comes out of a component's metadata as it went in."""
    document = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": "s"},
        "spec": {"type": "state.x", "metadata": [{"name": "a", "value": value}]},
    }
    try:
        content = yaml.safe_dump(document, default_style='"').encode()
    except UnicodeEncodeError:
        return
    result = outcome(content)
    assert isinstance(result, Resources)
    assert result.components[0].metadata[0].value == value
    assert not diff(result, load_objects([document], source="other"))


GEHEIM = "geheim-4711"


@pytest.mark.parametrize(
    "text",
    [
        "kind: App\nmetadata: {name: a}\nspec: {channel: {port: 1, apiToken: {value: geheim-4711}}}",
        f"kind: App\nmetadata: {{name: a}}\nspec: {{tokens: [{{sha256: {'ab' * 32}}}]}}",
        "kind: Component\nmetadata: {name: a}\nspec: {type: a.b, metadata: [{name: x, value: geheim-4711}]}",
        "kind: HTTPEndpoint\nmetadata: {name: a}\nspec: {baseUrl: b, headers: [{name: x, value: geheim-4711}]}",
        "kind: HTTPEndpoint\nmetadata: {name: a}\nspec: {baseUrl: b, clientTLS: {privateKey: {value: geheim-4711}}}",
        "kind: Configuration\nmetadata: {name: a}\nspec: {tracing: {otel: {headers: [k=geheim-4711]}}}",
        "kind: MCPServer\nmetadata: {name: a}\nspec: {endpoint: {sse: {headers: [{value: geheim-4711}]}}}",
    ],
)
def test_no_secret_is_in_the_text_of_a_resource(tmp_path: Path, text: str) -> None:
    """Neither str nor repr of a set of resources, nor rich's form, shows a value that may be a secret."""
    group = "shared.dapr.io" if "kind: App" in text else "dapr.io"
    resources = load_text(tmp_path, f"apiVersion: {group}/v1alpha1\n{text}\n")
    shown = f"{resources} {resources!r} {diff(Resources(), resources)!r} {resources.__rich_repr__()}"
    assert GEHEIM not in shown
    assert "ab" * 32 not in shown
    assert "…" in shown


def test_no_secret_is_in_an_error(tmp_path: Path) -> None:
    """A secret in a wrong place or of a wrong form is not repeated in the error."""
    text = (
        "apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: a}\n"
        f"spec: {{channel: {{url: 'http://u:{GEHEIM}@h', apiToken: {GEHEIM}}}, tokens: [{GEHEIM}, {{sha256: {GEHEIM}}}, "
        f"{{secretKeyRef: {GEHEIM}}}]}}\n"
    )
    with pytest.raises(ResourceErrors) as caught:
        load_text(tmp_path, text)
    assert len(caught.value.errors) >= 5
    assert GEHEIM not in f"{caught.value} {caught.value!r} {caught.value.errors!r}"
