"""Resources from files, all errors at once.

Before both roads: what the instance serves is made of the answer. Loading reads files and nothing else; it blocks, so
a running instance calls it in a thread.
"""

from __future__ import annotations

import codecs
import os
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from dapr_shared.resources.app_kind import app
from dapr_shared.resources.configuration_kind import configuration, expand_variables
from dapr_shared.resources.conflicts import app_conflicts, name_conflicts
from dapr_shared.resources.dapr_kinds import component, http_endpoint, other, resiliency, subscription
from dapr_shared.resources.documents import Document, MappingNode, ScalarNode, YamlError, documents, node_of
from dapr_shared.resources.errors import Notice, ResourceError, ResourceErrors, did_you_mean
from dapr_shared.resources.fields import Fields, Report
from dapr_shared.resources.model import (
    DAPR_GROUP,
    SHARED_GROUP,
    App,
    Component,
    Configuration,
    HTTPEndpoint,
    Other,
    Resiliency,
    Resource,
    Subscription,
)
from dapr_shared.resources.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "KINDS",
    "MAX_FILE_BYTES",
    "Examined",
    "Notice",
    "ResourceError",
    "ResourceErrors",
    "Resources",
    "combine",
    "examine",
    "examine_documents",
    "examine_files",
    "examine_object",
    "load",
    "load_objects",
    "read_text",
    "resource_files",
]

MAX_FILE_BYTES = 4 * 1024 * 1024
_ENOUGH_ERRORS = 1000
_SUFFIXES = (".yaml", ".yml")

R = TypeVar("R", bound=Resource)

KINDS: dict[str, frozenset[str]] = {
    "App": frozenset({f"{SHARED_GROUP}/v1alpha1"}),
    "Component": frozenset({f"{DAPR_GROUP}/v1alpha1"}),
    "Configuration": frozenset({f"{DAPR_GROUP}/v1alpha1"}),
    "HTTPEndpoint": frozenset({f"{DAPR_GROUP}/v1alpha1"}),
    "Subscription": frozenset({f"{DAPR_GROUP}/v1alpha1", f"{DAPR_GROUP}/v2alpha1"}),
    "Resiliency": frozenset({f"{DAPR_GROUP}/v1alpha1"}),
    "MCPServer": frozenset({f"{DAPR_GROUP}/v1alpha1"}),
    "WorkflowAccessPolicy": frozenset({f"{DAPR_GROUP}/v1alpha1"}),
}
"""The kinds that are read, with their API versions. All others are skipped with a notice."""


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """A set of resources, each kind in the order of the files."""

    apps: tuple[App, ...] = ()
    components: tuple[Component, ...] = ()
    configurations: tuple[Configuration, ...] = ()
    http_endpoints: tuple[HTTPEndpoint, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    resiliencies: tuple[Resiliency, ...] = ()
    others: tuple[Other, ...] = ()
    notices: tuple[Notice, ...] = ()
    """What was ignored: unknown fields of Dapr's kinds, skipped documents. For `validate` and the log."""


def load(
    paths: Sequence[Path],
    *,
    namespace: str | None = None,
    as_namespace: str | None = None,
    kinds: Collection[str] | None = None,
    environment: Mapping[str, str] | None = None,
    allow_empty: bool = False,
) -> Resources:
    """Read resources from files and directories (`*.yaml`, `*.yml` in any case, sorted, without subdirectories).

    `namespace`: leave out resources that name another one (the environment variable NAMESPACE of standalone mode);
    one that names none belongs to it, or to `default`. `as_namespace`: every resource belongs to this namespace,
    whatever it says, as in a daprd that serves one app. `kinds`: read only these; default all of `KINDS`.
    `environment`: put its variables into Configurations (standalone mode only). `allow_empty`: a directory or a file
    without documents is no error.

    Raises `ResourceErrors` with everything that is wrong in all files.
    """
    collection = _Collection(namespace or "", as_namespace or "", frozenset(kinds or KINDS))
    for file in _files(paths, collection, allow_empty=allow_empty):
        content = _read(file, collection)
        if content is None:
            continue
        if environment is not None:
            content = _expanded(content, environment)
        if not _take_file(file, content, collection) and not allow_empty:
            collection.error(Origin(str(file), 0, 0), "is empty: a file of resources has at least one document")
    return collection.result()


class Examined(NamedTuple):
    """What `examine` found."""

    resources: Resources
    """Those that are right, with the notices."""
    errors: Sequence[ResourceError]
    files: Sequence[Path]
    """The files that were read, or could not be."""


def examine(paths: Sequence[Path], *, environment: Mapping[str, str] | None = None) -> Examined:
    """Read resources like `load`, and go on with those that are right: for `validate`. Raises nothing of what is wrong."""
    collection = _Collection("", "", frozenset(KINDS))
    files: list[Path] = []
    for file in _files(paths, collection, allow_empty=False):
        files.append(file)
        content = _read(file, collection)
        if content is None:
            continue
        if environment is not None:
            content = _expanded(content, environment)
        if not _take_file(file, content, collection):
            collection.error(Origin(str(file), 0, 0), "is empty: a file of resources has at least one document")
    resources, errors = collection.examined()
    return Examined(resources, errors, files)


def examine_files(paths: Sequence[Path], *, default_namespace: str) -> Examined:
    """Read resources like `load`, and go on with those that are right.

    Which exclude each other is left to the caller. A resource that names no namespace belongs to `default_namespace`. No
    path has to hold anything.
    """
    collection = _Collection("", "", frozenset(KINDS), default_namespace)
    files: list[Path] = []
    for file in _files(paths, collection, allow_empty=True):
        files.append(file)
        content = _read(file, collection)
        if content is not None:
            _take_file(file, content, collection)
    resources, errors = collection.examined(conflicts=False)
    return Examined(resources, errors, files)


def examine_documents(found: Iterable[tuple[str, Document]], *, default_namespace: str) -> Examined:
    """Read documents, each with its file, and go on with those that are right; which exclude each other is left to the caller.

    A resource that names no namespace belongs to `default_namespace`.
    """
    collection = _Collection("", "", frozenset(KINDS), default_namespace)
    for file, document in found:
        collection.take(document, file, os.path.dirname(os.path.abspath(file)))  # noqa: PTH100, PTH120 - as `_take_file`
    resources, errors = collection.examined(conflicts=False)
    return Examined(resources, errors, ())


def examine_object(data: Mapping[str, Any], *, source: str) -> Examined:
    """Read one object of the Kubernetes API, `source` names it: the resource, if it is right, and what is wrong."""
    collection = _Collection("", "", frozenset(KINDS))
    try:
        document = Document(0, 0, node_of(data))
    except YamlError as error:
        collection.error(Origin(source, 0, 0), error.problem)
    else:
        collection.take(document, source, folder="")
    resources, errors = collection.examined()
    return Examined(resources, errors, ())


def load_objects(
    objects: Iterable[Mapping[str, Any]],
    *,
    source: str,
    namespace: str | None = None,
    kinds: Collection[str] | None = None,
) -> Resources:
    """Read resources from plain data, such as objects of the Kubernetes API; `source` stands for the file's name.

    Raises `ResourceErrors`.
    """
    collection = _Collection(namespace or "", "", frozenset(kinds or KINDS))
    for number, data in enumerate(objects, start=1):
        try:
            document = Document(number, 0, node_of(data, document=number))
        except YamlError as error:
            collection.error(Origin(source, number, 0), error.problem)
        else:
            collection.take(document, source, folder="")
    return collection.result()


def combine(parts: Iterable[Resources]) -> Resources:
    """Several sets as one, in order. Raises `ResourceErrors` where resources of different sets exclude each other."""
    chosen = list(parts)
    fields: dict[str, tuple[Any, ...]] = {
        name: tuple(item for part in chosen for item in getattr(part, name)) for name in Resources.__struct_fields__
    }
    result = Resources(**fields)
    errors = _conflicts(result)
    if errors:
        raise ResourceErrors(errors)
    return result


def _conflicts(resources: Resources) -> list[ResourceError]:
    # Components are left to the registry: two of one name are legal when no app sees both (design §5.4).
    named = (
        *resources.configurations,
        *resources.http_endpoints,
        *resources.subscriptions,
        *resources.resiliencies,
    )
    return app_conflicts(resources.apps) + name_conflicts(named)


# Files -------------------------------------------------------------------------------------------------------------
def _files(paths: Sequence[Path], collection: _Collection, *, allow_empty: bool) -> Iterator[Path]:
    """The files to read, each once."""
    seen: set[str] = set()
    for path in paths:
        for file in _files_of(path, collection, allow_empty=allow_empty):
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                yield file


def resource_files(directory: Path) -> list[Path]:
    """The files of a directory that are read: `*.yaml`, `*.yml` in any case, sorted. Raises `OSError`."""
    return sorted(f for f in directory.iterdir() if f.suffix.lower() in _SUFFIXES and f.is_file())


def _files_of(path: Path, collection: _Collection, *, allow_empty: bool) -> list[Path]:
    origin = Origin(str(path), 0, 0)
    try:
        if not path.is_dir():
            if path.is_file():
                return [path]
            problem = "is not a file or a directory" if path.exists() else "does not exist"
            collection.error(origin, problem)
            return []
        files = resource_files(path)
    except (OSError, ValueError) as error:
        collection.error(origin, f"cannot be read: {_reason(error)}")
        return []
    if not files and not allow_empty:
        collection.error(origin, "is a directory without *.yaml or *.yml files")
    return files


def _read(file: Path, collection: _Collection) -> bytes | None:
    try:
        return read_text(file)
    except ResourceError as error:
        collection.error(error.origin, error.problem)
        return None


def read_text(file: Path) -> bytes:
    """The content of a file of at most 4 MiB of UTF-8, without its byte order mark. Raises `ResourceError`."""
    origin = Origin(str(file), 0, 0)
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ResourceError(origin, "", f"cannot be read: {_reason(error)}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ResourceError(origin, "", f"is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ResourceError(Origin(str(file), 0, line), "", f"is not UTF-8 text: {error.reason}") from error
    return content.removeprefix(codecs.BOM_UTF8)


def _expanded(content: bytes, environment: Mapping[str, str]) -> bytes:
    text = expand_variables(content.decode(), environment)
    # A variable that is not UTF-8 becomes bytes that the YAML parser refuses with their line.
    return text.encode(errors="surrogateescape")


def _take_file(file: Path, content: bytes, collection: _Collection) -> bool:
    """Read the documents of one file; false: there are none."""
    folder = os.path.dirname(os.path.abspath(file))  # noqa: PTH100, PTH120 - text, and links are not resolved
    found = False
    try:
        for document in documents(content):
            found = True
            if collection.full:
                break
            collection.take(document, str(file), folder)
    except YamlError as error:
        collection.error(Origin(str(file), error.document, error.line), error.problem)
        return True
    return found


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# Documents ---------------------------------------------------------------------------------------------------------
class _Collection:
    """The resources and the errors so far."""

    def __init__(self, namespace: str, as_namespace: str, kinds: frozenset[str], default_namespace: str = "") -> None:
        self._namespace = namespace
        self._default_namespace = namespace or default_namespace
        self._as_namespace = as_namespace
        self._kinds = kinds
        self._resources: list[Resource] = []
        self._errors: list[ResourceError] = []
        self._notices: list[Notice] = []

    @property
    def full(self) -> bool:
        """Whether so much is wrong that reading on helps nobody."""
        return len(self._errors) >= _ENOUGH_ERRORS

    def error(self, origin: Origin, problem: str) -> None:
        """Keep an error of a whole file or document."""
        self._errors.append(ResourceError(origin, "", problem))

    def take(self, document: Document, file: str, folder: str) -> None:
        """Decode one document, or say why it is skipped."""
        root = document.root
        report = Report(file, document.number)
        if isinstance(root, MappingNode):
            kind, api_version = _text(root, "kind"), _text(root, "apiVersion")
            if api_version in KINDS.get(kind, ()):
                if kind in self._kinds and self._is_ours(root):
                    self._decode(kind, api_version, root, report, folder)
            else:
                _skip(report, root, kind, api_version)
        elif not isinstance(root, ScalarNode) or root.value is not None:
            report.error(
                document.line, "", "is not a resource: expected a mapping with apiVersion, kind, metadata and spec"
            )
        self._errors += sorted(report.errors, key=lambda error: error.origin.line)
        self._notices += report.notices

    def _is_ours(self, root: MappingNode) -> bool:
        """Whether a resource passes the namespace filter: only both names given and different keep it out."""
        metadata = root.entries.get("metadata")
        given = _text(metadata.node, "namespace") if metadata and isinstance(metadata.node, MappingNode) else ""
        return not self._namespace or not given or given == self._namespace

    def _decode(self, kind: str, api_version: str, root: MappingNode, report: Report, folder: str) -> None:
        fields = Fields(report, root, lenient=kind != "App")
        namespace = self._default_namespace
        resource: Resource
        match kind:
            case "App":
                resource = app(fields, namespace=namespace, folder=folder)
            case "Component":
                resource = component(fields, namespace=namespace)
            case "Configuration":
                resource = configuration(fields, namespace=namespace)
            case "HTTPEndpoint":
                resource = http_endpoint(fields, namespace=namespace)
            case "Subscription":
                version = api_version.rpartition("/")[2]
                resource = subscription(fields, namespace=namespace, api_version=version)
            case "Resiliency":
                resource = resiliency(fields, namespace=namespace)
            case _:
                resource = other(fields, namespace=namespace, kind=kind, api_version=api_version)
        if not report.errors:
            if self._as_namespace:
                resource = msgspec.structs.replace(resource, namespace=self._as_namespace)
            self._resources.append(resource)

    def result(self) -> Resources:
        """All resources. Raises `ResourceErrors` if anything is wrong."""
        result, errors = self.examined()
        if errors:
            raise ResourceErrors(errors)
        return result

    def examined(self, *, conflicts: bool = True) -> tuple[Resources, list[ResourceError]]:
        """All resources that are right, and everything that is wrong; `conflicts`: which exclude each other, too."""

        def of(type_: type[R]) -> tuple[R, ...]:
            return tuple(item for item in self._resources if isinstance(item, type_))

        result = Resources(
            apps=of(App),
            components=of(Component),
            configurations=of(Configuration),
            http_endpoints=of(HTTPEndpoint),
            subscriptions=of(Subscription),
            resiliencies=of(Resiliency),
            others=of(Other),
            notices=tuple(self._notices),
        )
        return result, self._errors + (_conflicts(result) if conflicts else [])


def _skip(report: Report, root: MappingNode, kind: str, api_version: str) -> None:
    """Skip what is not ours, as Dapr does; but a wrong apiVersion or kind in our group is an error."""
    group = api_version.partition("/")[0]
    tell = report.error if group == SHARED_GROUP or (kind == "App" and group == DAPR_GROUP) else report.notice
    line = root.line
    if not kind:
        tell(line, "kind", "is missing: the document is skipped" if tell == report.notice else "is required: a text")
    elif kind in KINDS and (group in (DAPR_GROUP, SHARED_GROUP) or not group):
        expected = " or ".join(sorted(KINDS[kind]))
        tell(line, "apiVersion", f'expected {expected} for the kind {kind}, found "{api_version[:60]}"')
    else:
        hint = did_you_mean(kind, KINDS) if group in (DAPR_GROUP, SHARED_GROUP) else ""
        tell(line, "kind", f'"{kind[:60]}" of "{api_version[:60]}" is not a kind that is read here{hint}')


def _text(mapping: MappingNode, name: str) -> str:
    entry = mapping.entries.get(name)
    return (
        entry.node.value if entry and isinstance(entry.node, ScalarNode) and isinstance(entry.node.value, str) else ""
    )
