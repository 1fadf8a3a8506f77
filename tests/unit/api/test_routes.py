"""The route table: matching, decoding, cleaning of paths."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.api.http.call import HttpCall, unquote_param
from dapr_shared.api.http.routes import Route, RouteTable, clean_path, origin_form
from dapr_shared.core.errors import DaprError
from dapr_shared.wire.http.messages import Request


async def handler(call):
    raise NotImplementedError


TABLE = RouteTable(
    [
        Route(("GET",), "/v1.0/state/{store}/{key}", handler, "Get", "state"),
        Route(("POST", "PUT"), "/v1.0/state/{store}", handler, "Save", "state"),
        Route(("POST",), "/v1.0/state/{store}/bulk", handler, "Bulk", "state"),
        Route(("POST",), "/v1.0/publish/{pubsub}/{topic...}", handler, "Publish", "publish"),
        Route(("POST",), "/v1.0/publish/bulk/{pubsub}/{topic...}", handler, "BulkPublish", "publish"),
        Route((), "/any/thing/{rest...}", handler, "Any", "any"),
    ]
)


@pytest.mark.parametrize(
    ("verb", "path", "name", "params"),
    [
        ("GET", b"/v1.0/state/s/k", "Get", ("s", "k")),
        ("GET", b"/v1.0/state/s/bulk", "Get", ("s", "bulk")),
        ("POST", b"/v1.0/state/s/bulk", "Bulk", ("s",)),
        ("PUT", b"/v1.0/state/s", "Save", ("s",)),
        ("POST", b"/v1.0/state/s/", "Save", ("s",)),
        ("GET", b"/v1.0/state/s/a%2Fb", "Get", ("s", "a/b")),
        ("GET", b"/v1.0/state/s/a+b%20c", "Get", ("s", "a b c")),
        ("GET", b"/v1.0/state/s/%C3%A4", "Get", ("s", "ä")),
        ("POST", b"/v1.0/publish/p/a/b/c", "Publish", ("p", "a/b/c")),
        ("POST", b"/v1.0/publish/bulk/p/t", "BulkPublish", ("p", "t")),
        ("POST", b"/v1.0/publish/bulk/t", "Publish", ("bulk", "t")),
        ("DELETE", b"/any/thing/x/y", "Any", ("x/y",)),
    ],
)
def test_paths_find_their_route(verb, path, name, params):
    """Literal segments win over parameters, a trailing slash is optional, parameters are query-unescaped."""
    found = TABLE.match(verb, path)
    assert found is not None
    assert (found[0].name, found[1]) == (name, params)


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", b"/v1.0/state/s"),
        ("PATCH", b"/v1.0/state/s/k"),
        ("GET", b"/v1.0/State/s/k"),
        ("GET", b"/v1.0/state/s/k/x"),
        ("GET", b"/v1.0/state//k"),
        ("POST", b"/v1.0/publish/p"),
        ("POST", b"/v1.0/publish/p/"),
        ("GET", b"/"),
        ("GET", b"*"),
        ("GET", b""),
    ],
)
def test_other_paths_have_no_route(verb, path):
    """A wrong verb, case, number of segments or an empty parameter is no route."""
    assert TABLE.match(verb, path) is None


@pytest.mark.parametrize("raw", [b"%", b"%2", b"%zz", b"a%FF", b"\xff", b"%C3"])
def test_bad_escapes_are_refused(raw):
    """A parameter that is not percent-encoded UTF-8 is a bad request, never a guess."""
    with pytest.raises(DaprError) as error:
        unquote_param(raw)
    assert error.value.row.http == 400


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        (b"/a/b", b"/a/b"),
        (b"/a//b", b"/a/b"),
        (b"/a/./b", b"/a/b"),
        (b"/a/../b", b"/b"),
        (b"/../../b", b"/b"),
        (b"/a/b/", b"/a/b/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/.b", b"/a/.b"),
        (b"/a/..b/c", b"/a/..b/c"),
        (b"//", b"/"),
        (b"/%2e%2e/b", b"/%2e%2e/b"),
    ],
)
def test_paths_are_cleaned(path, cleaned):
    """Double slashes and dot segments are resolved; encoded ones are data."""
    assert clean_path(path) == cleaned


@given(st.binary(max_size=60))
def test_any_path_is_matched_or_not_but_never_fails(path):
    """Whatever the bytes, cleaning and matching answer, or refuse with a row of the table."""
    with contextlib.suppress(DaprError):  # any other exception is the failure
        TABLE.match("GET", clean_path(b"/" + path))


@given(st.lists(st.sampled_from([b"a", b".", b"..", b"", b"%2e"]), max_size=8))
def test_a_cleaned_path_stays_clean(segments):
    """Cleaning is idempotent and leaves no dot segment."""
    once = clean_path(b"/" + b"/".join(segments))
    assert clean_path(once) == once
    assert not {b".", b".."} & set(once.split(b"/"))


def test_metadata_takes_the_first_value_of_a_key():
    """`metadata.x` twice: the first one counts."""
    call = HttpCall(Request("GET", b"/", [], b""), b"/", b"metadata.x=1&metadata.x=2&metadata.=3&y=4", (), 0)
    assert call.metadata() == {"x": "1", "": "3"}
    assert call.query("y") == "4"
    assert call.query("z", "none") == "none"


def test_two_routes_of_one_verb_and_path_are_a_defect():
    """The table refuses to be ambiguous."""
    row = Route(("GET",), "/a/b/{c}", handler, "A", "a")
    with pytest.raises(ValueError, match="two routes"):
        RouteTable([row, row])


_TARGETS = st.lists(
    st.sampled_from([b"/", b"v1.0", b"state", b"s", b"%41", b"%zz", b"..", b"?", b"a=b", b"bulk"]), max_size=8
)


@given(st.sampled_from(["GET", "POST", "PUT", "PATCH"]), st.lists(_TARGETS, max_size=4))
def test_a_target_that_is_remembered_means_what_it_would_mean_anew(verb, targets):
    """Whatever was asked before, a target has the path, query, route and parameters, or the error, of the first time."""
    table = RouteTable(TABLE.routes)
    for pieces in [*targets, *targets]:
        target = b"/v1.0/state/" + b"".join(pieces)
        raw_path, _, query = origin_form(target).partition(b"?")
        found = table.resolve(verb, target)
        assert (found.raw_path, found.path, found.query) == (raw_path, clean_path(raw_path), query)
        problem, wanted = "", None
        try:
            wanted = TABLE.match(verb, clean_path(raw_path))
        except DaprError as error:
            problem = error.message
        assert (found.problem.message if found.problem else "") == problem
        assert (found.route, found.params) == (wanted or (None, ()))


def test_no_table_remembers_targets_without_end():
    """A client that makes up targets, or long ones, fills no memory."""
    table = RouteTable(TABLE.routes)
    for number in range(1000):
        table.resolve("POST", b"/v1.0/state/%d" % number)
    table.resolve("POST", b"/v1.0/state/" + b"s" * 1000)
    assert len(table._known) <= 256
    assert max(len(target) for _, target in table._known) <= 256
