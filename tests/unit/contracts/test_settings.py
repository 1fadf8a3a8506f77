"""Typed settings: Dapr's conversions, and errors that name the field."""

from __future__ import annotations

from typing import Annotated

import pytest

from dapr_shared.contracts.settings import (
    Kind,
    Setting,
    SettingError,
    Settings,
    decode_settings,
    fields_of,
    unknown_names,
)


class Example(Settings, frozen=True, kw_only=True):
    """Every kind of setting."""

    host_name: Annotated[str, Setting("The host.", aliases=("url", "address"))]
    enabled: Annotated[bool, Setting("Whether.", Kind.BOOLEAN)] = False
    count: Annotated[int, Setting("How many.", Kind.INTEGER, minimum=1)] = 3
    wait: Annotated[float, Setting("How long.", Kind.DURATION, name="waitTime")] = 1.0
    size: Annotated[int, Setting("How large.", Kind.BYTES)] = 0
    names: Annotated[tuple[str, ...], Setting("Which.", Kind.LIST)] = ()
    mode: Annotated[str, Setting("How.", choices=("a", "b"))] = "a"
    password: Annotated[str, Setting("A secret.", secret=True, choices=("right",))] = "right"


def decode(**metadata: str) -> Example:
    return decode_settings(Example, {"hostName": "h", **metadata})


def test_defaults():
    """Settings that are not given have their defaults."""
    assert decode() == Example(host_name="h")


@pytest.mark.parametrize("name", ["hostName", "HOSTNAME", "url", "Address"])
def test_names(name):
    """Names ignore case, and an alias stands for the name."""
    assert decode_settings(Example, {name: "x"}).host_name == "x"


def test_order_of_aliases():
    """The name goes before its aliases, and the first alias before the second."""
    assert decode_settings(Example, {"address": "2", "url": "1"}).host_name == "1"
    assert decode_settings(Example, {"address": "2", "url": "1", "hostName": "0"}).host_name == "0"


@pytest.mark.parametrize("word", ["y", "YES", "true", "T", "on", "1", " true "])
def test_true(word):
    """Dapr's words for true are true."""
    assert decode(enabled=word).enabled is True


@pytest.mark.parametrize("word", ["n", "false", "0", "", "maybe", "truee"])
def test_false(word):
    """Everything else is false and no error."""
    assert decode(enabled=word).enabled is False


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("count", " 12 ", "count", 12),
        ("waitTime", "1m30s", "wait", 90.0),
        ("waitTime", "20", "wait", 20.0),
        ("size", "4Mi", "size", 4 * 1024 * 1024),
        ("names", "a, b,,c", "names", ("a", " b", "", "c")),
        ("names", "", "names", ()),
        ("mode", "b", "mode", "b"),
    ],
)
def test_conversions(name, text, attribute, value):
    """Text becomes what the setting's kind says."""
    assert getattr(decode(**{name: text}), attribute) == value


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "hostName: is required: The host."),
        ({"hostName": "h", "HostName": "h"}, "HostName: given twice: also as 'hostName' (names ignore case)"),
        ({"hostName": "h", "count": "1.5"}, "count: expected a whole number, found '1.5'"),
        ({"hostName": "h", "Count": "0"}, "Count: must be at least 1, found '0'"),
        ({"hostName": "h", "waitTime": "soon"}, "waitTime: expected a duration such as 30s, 1m30s or a number of seconds, found 'soon'"),
        ({"hostName": "h", "size": "big"}, "size: expected a size such as 512Ki or 4Mi, found 'big'"),
        ({"hostName": "h", "mode": "c"}, "mode: must be one of a, b, found 'c'"),
        ({"hostName": "h", "password": "p-1"}, "password: must be one of right, found a value (not shown: secret)"),
    ],
)  # fmt: skip
def test_errors(metadata, message):
    """A wrong value is an error that names the field as it was written, what was expected and what was found."""
    with pytest.raises(SettingError) as caught:
        decode_settings(Example, metadata)
    assert str(caught.value) == message


def test_unknown_names():
    """Names that no setting has are ignored, and can be listed."""
    assert decode(other="x") == decode()
    assert unknown_names(Example, {"hostName": "h", "URL": "u", "Other": "x", "waittime": "1"}) == ["Other"]


def test_text_form():
    """The text form of settings shows no secret."""
    assert repr(decode(password="right")) == (
        "Example(host_name='h', enabled=False, count=3, wait=1.0, size=0, names=(), mode='a', password=…)"
    )


def test_fields():
    """The fields of a class carry names, requirement and default for the documentation; each needs its annotation."""
    specs = {spec.attribute: spec for spec in fields_of(Example)}
    assert (specs["host_name"].name, specs["host_name"].required, specs["host_name"].default) == (
        "hostName",
        True,
        None,
    )
    assert (specs["wait"].name, specs["wait"].required, specs["wait"].default) == ("waitTime", False, 1.0)

    class Bare(Settings, frozen=True, kw_only=True):
        value: str = ""

    with pytest.raises(TypeError, match=r"Bare\.value has no Setting annotation"):
        fields_of(Bare)
