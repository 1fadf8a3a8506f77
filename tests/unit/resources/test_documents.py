"""YAML text to trees."""

import time

import pytest

from dapr_shared.resources.documents import (
    MAX_DEPTH,
    MAX_DOCUMENTS,
    MAX_NODES,
    MappingNode,
    YamlError,
    documents,
    json_text,
    node_of,
    plain_data,
    plain_value,
)


def data(text: str) -> list[object]:
    return [plain_data(document.root) for document in documents(text.encode())]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("Null", None),
        ("true", True),
        ("yes", True),
        ("Y", True),
        ("on", True),
        ("off", False),
        ("n", False),
        ("tRue", "tRue"),
        ("0", 0),
        ("-0", 0),
        ("+12", 12),
        ("1_000", 1000),
        ("0x1F", 31),
        ("-0x1f", -31),
        ("0b101", 5),
        ("017", 15),
        ("0o17", 15),
        ("08", 8.0),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 1.8446744073709552e19),
        ("9" * 400, "9" * 400),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("1e999", "1e999"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("12:30:45", "12:30:45"),
        ("6379:6379", "6379:6379"),
        ("2026-11-23", "2026-11-23"),
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"),
        ("1.2.3", "1.2.3"),
        ("0x", "0x"),
        ("-", "-"),
        ("localhost:6379", "localhost:6379"),
    ],
)
def test_plain_scalars_mean_what_they_mean_to_dapr(text: str, value: object) -> None:
    """An unquoted scalar is read as Dapr's YAML parser reads it: YAML 1.1 without dates and without base 60."""
    found = plain_value(text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("a b", "a b"),
        (True, "true"),
        (False, "false"),
        (5, "5"),
        (2**64 - 1, "18446744073709551615"),
        (1.0, "1"),
        (-0.0, "-0"),
        (0.1, "0.1"),
        (1e-05, "0.00001"),
        (1e-06, "0.000001"),
        (1.5e-07, "1.5e-7"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        ([1, 2.0, "x", None], '[1,2,"x",null]'),
        ({"b": True, "a": {"d": 1.5}}, '{"a":{"d":1.5},"b":true}'),
        ([1e300], "[1e+300]"),
    ],
)
def test_values_become_the_text_that_dapr_makes_of_them(value: object, text: str) -> None:
    """A value that is not a text becomes its JSON text, numbers in Go's form."""
    assert json_text(value) == text


def test_quotes_and_tags_make_texts() -> None:
    """A quoted scalar and one tagged !!str are texts, a core tag reads even a quoted one, an own tag is dropped."""
    assert data("""{a: "true", b: 'no', c: !!str 5, d: !!int "5", e: !mine 7, f: "<<"}""") == [
        {"a": "true", "b": "no", "c": "5", "d": 5, "e": "7", "f": "<<"}
    ]


def test_keys_become_texts() -> None:
    """Numbers and truth values as keys become their text, as in JSON."""
    assert data("{1: a, true: b, 1.5: c}") == [{"1": "a", "true": "b", "1.5": "c"}]


def test_merge_keys_and_aliases() -> None:
    """Aliases stand for their node; a merge key adds what the mapping does not say itself, the first source first."""
    text = "a: &a {x: 1, w: 1}\nb: &b {w: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd: *a\n'<<': kept\n"
    assert data(text) == [
        {
            "a": {"x": 1, "w": 1},
            "b": {"w": 2, "z": 2},
            "c": {"x": 3, "w": 1, "z": 2},
            "d": {"x": 1, "w": 1},
            "<<": "kept",
        }
    ]


def test_the_last_of_a_repeated_key_counts_and_is_told() -> None:
    """Of a key given twice the last counts; its line is kept."""
    (document,) = documents(b"a: 1\nb: 2\na: 3\n")
    assert isinstance(document.root, MappingNode)
    assert plain_data(document.root) == {"a": 3, "b": 2}
    assert document.root.repeated == [("a", 3)]


def test_documents_are_numbered_with_their_lines() -> None:
    """Documents count from 1, empty ones too; each knows the line of its first content."""
    found = [
        (d.number, d.line, plain_data(d.root)) for d in documents(b"# only a comment\n---\na: 1\n---\n---\n\nb: 2\n")
    ]
    assert found == [(1, 3, {"a": 1}), (2, 5, None), (3, 7, {"b": 2})]


def test_a_node_of_plain_data_gives_the_data_back() -> None:
    """A tree made of plain data holds that data."""
    value = {"a": [1, "x", None, True, 1.5], "b": {"c": {}}}
    assert plain_data(node_of(value)) == value


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (b"a: 1\n\tb: 2\n", 2, "is not valid YAML: a tab in the indentation; use spaces"),
        (
            b"a: 'x\n\n",
            3,
            "is not valid YAML: found unexpected end of stream, while scanning a quoted scalar that began in line 1",
        ),
        (
            b"a: [1, 2\nb: 3\n",
            2,
            "is not valid YAML: did not find expected ',' or ']', while parsing a flow sequence that began in line 1",
        ),
        (b"a: b: c\n", 1, "is not valid YAML: mapping values are not allowed in this context"),
        ("ä: ö\nü: \x01\n".encode(), 2, "is not valid YAML: control characters are not allowed"),
        (b"? [a]\n: 1\n", 1, "has a mapping key that is not a text"),
        (b"~: 1\n", 1, "has a mapping key that is not a text"),
        (b"a: *x\n", 1, "uses the alias *x before the end of what &x names, or without it"),
        (b"a: &x\n  - *x\n", 2, "uses the alias *x before the end of what &x names, or without it"),
        (b"a: 1\n<<: [5]\n", 2, "has a merge key << whose value is not a mapping or a list of mappings"),
        (b"[" * 1000, 1, f"is nested more than {MAX_DEPTH} levels deep"),
        (b"{a: " * 1000, 1, f"is nested more than {MAX_DEPTH} levels deep"),
        (b"- " * 100_000, 1, f"is nested more than {MAX_DEPTH} levels deep"),
        (b"---\n" * (MAX_DOCUMENTS + 2), MAX_DOCUMENTS + 1, f"has more than {MAX_DOCUMENTS} documents"),
        (b"- \n" * (MAX_NODES + 2), MAX_NODES + 1, f"has more than {MAX_NODES} values"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_wrong_is_said_with_its_line(text: bytes, line: int, problem: str) -> None:
    """Text that is not YAML, or is too much, is refused with the line and in words."""
    with pytest.raises(YamlError) as caught:
        list(documents(text))
    assert (caught.value.line, caught.value.problem) == (line, problem)


def test_an_alias_bomb_is_refused_at_once() -> None:
    """Nine aliases in nine levels (a billion laughs) are refused before anything is expanded."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)]
    began = time.monotonic()
    with pytest.raises(YamlError, match="aliases that stand for more than"):
        list(documents("\n".join(lines).encode()))
    assert time.monotonic() - began < 5


def test_a_chain_of_aliases_is_refused_when_it_gets_deep() -> None:
    """Aliases cannot nest deeper than collections may, so nothing that walks a tree runs out of stack."""
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 200)]
    with pytest.raises(YamlError, match="nested more than"):
        list(documents("\n".join(lines).encode()))
