import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.security.operations import Operations


def operations(*names, fold_case=True):
    """Operations whose only verb is their own number in the list."""
    made = Operations(fold_case=fold_case)
    for index, name in enumerate(names):
        made.add(name, action=True, verbs=[str(index)])
    return made


def found(made, path):
    operation = made.find(path)
    return None if operation is None else [int(verb) for verb in operation.verbs]


@pytest.mark.parametrize(
    ("name", "matching", "others"),
    [
        ("/orders", ["orders", "/orders", "/orders/", "//orders", "/ORDERS", "/orders/1", "orders/1/2"], ["", "order", "ordersx", "x/orders"]),
        ("orders/*", ["orders", "orders/1", "/orders/1/"], ["orders/1/2", "order/1", ""]),
        ("/orders/**", ["orders", "orders/1", "orders/1/2/3"], ["order", ""]),
        ("/orders/*/items", ["orders/1/items", "orders/1/items/2"], ["orders/1", "orders/items", "orders/1/2/items"]),
        ("/or*s", ["ors", "orders", "ordERS/1"], ["or", "order"]),
        ("/*ers", ["orders", "ers"], ["orderss"]),
        ("/a*b*c/d", ["abc/d", "axxbyyc/d", "abbc/d"], ["abc", "acb/d", "ab/d"]),
        ("/*", ["", "anything"], ["two/segments"]),
        ("/**", ["", "anything", "a/b/c"], []),
        ("/", ["", "/", "//"], ["anything"]),
        ("/Orders", ["orders"], []),
    ],
)  # fmt: skip
def test_an_operation_matches_its_paths_and_no_others(name, matching, others):
    """Exact paths hold for what is below, `*` for one segment, `**` for the rest, `*` inside for part of a segment."""
    made = operations(name)
    assert [path for path in matching if found(made, path) is None] == []
    assert [path for path in others if found(made, path) is not None] == []


@pytest.mark.parametrize(
    ("names", "path", "winner"),
    [
        (["/**", "/*", "/o*", "/or*", "/orders"], "orders", 4),
        (["/**", "/*", "/o*", "/or*"], "orders", 3),
        (["/**", "/*", "/o*"], "orders", 2),
        (["/**", "/*"], "orders", 1),
        (["/a", "/a/admin"], "a/admin", 1),
        (["/a/admin", "/a"], "a/admin/x", 0),
        (["/a/admin", "/a"], "a/other", 1),
        (["/a/b/d", "/a/**"], "a/b/c", 1),
        (["/a/b/d", "/a/*/c"], "a/b/c", 1),
        (["/a", "/a/**"], "a/x", 1),
        (["/a/*", "/**"], "a/b/c", 1),
    ],
)
def test_the_most_specific_operation_decides_whatever_the_order(names, path, winner):
    """An operation behind another one in the file, or beside a dead end, is found."""
    assert found(operations(*names), path) == [winner]
    turned = operations(*reversed(names))
    assert found(turned, path) == [len(names) - 1 - winner]


def test_a_star_in_a_callers_path_is_a_plain_character():
    """A caller cannot choose the rule of a wildcard by sending the wildcard."""
    made = operations("/orders/*", "/orders/secret")
    assert found(made, "orders/**") == [0]
    assert found(made, "orders/*/x") is None


def test_case_counts_where_it_is_not_folded():
    """Names of gRPC methods differ by case, HTTP paths do not."""
    made = operations("/pkg.Service/Method", fold_case=False)
    assert found(made, "/pkg.Service/Method") == [0]
    assert found(made, "/pkg.service/method") is None


def test_entries_for_the_same_operation_are_one_and_the_first_word_for_a_verb_stays():
    """Two entries add their verbs; what is said twice is as it was said first."""
    made = Operations(fold_case=True)
    made.add("/a", action=True, verbs=["get"])
    made.add("a/", action=False, verbs=["GET", "POST"])
    operation = made.find("a")
    assert operation is not None
    assert operation.verbs == {"GET": True, "POST": False}
    assert operation.action is True


@pytest.mark.parametrize("name", ["/a/**/b", "/**/b", "/a/../b", "./a"])
def test_an_operation_that_could_not_match_is_an_error(name):
    """A rule that no call can ever meet is refused when it is added."""
    with pytest.raises(ValueError, match=r"rest of a path|do not occur"):
        operations(name)


@pytest.mark.parametrize("path", ["..", "a/../orders", "orders/.", "./orders"])
def test_a_path_that_still_has_dots_matches_nothing(path):
    """What is not normalised is no operation."""
    assert found(operations("/**", "/orders"), path) is None


@given(path=st.text(alphabet="ab*/.", max_size=40), names=st.lists(st.text(alphabet="ab*/", max_size=12), max_size=8))
def test_a_policy_matches_what_one_of_its_operations_matches(path, names):
    """Operations do not hide each other: together they match exactly what they match one by one, in any order."""
    names = [name for name in names if "**" not in [part for part in name.split("/") if part][:-1]]
    one_by_one = any(operations(name).find(path) is not None for name in names)
    assert (operations(*names).find(path) is not None) == one_by_one
    assert (operations(*reversed(names)).find(path) is not None) == one_by_one


def test_a_long_path_is_no_burden():
    """A caller's text cannot make a pattern slow."""
    made = operations("/" + "*a" * 20 + "b")
    started = time.process_time()
    assert found(made, "a" * 100_000) is None
    assert found(made, "a/" * 50_000) is None
    assert time.process_time() - started < 1
