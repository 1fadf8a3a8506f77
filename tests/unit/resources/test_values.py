"""Values: written out, from secrets, from the environment, and their templates."""

import re

import pytest

from dapr_shared.resources.model import MetadataItem, SecretKeyRef
from dapr_shared.resources.values import (
    SecretError,
    TemplateError,
    UnresolvedError,
    env_ref_allowed,
    needs_app,
    render_templates,
    resolve,
    resolve_item,
)

SECRETS = {("vault", "redis", "password"): "geheim", ("vault", "user", "user"): "u", ("vault", "none", "none"): ""}


async def read_secret(store: str, name: str, key: str, /) -> str | None:
    if store == "gone":
        raise SecretError("the secret store gone is not loaded")
    return SECRETS.get((store, name, key))


async def resolved(
    *items: MetadataItem, store: str = "vault", **env: str
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    warnings: list[tuple[str, str]] = []
    values = await resolve(
        items,
        env=env,
        secret=read_secret,
        secret_store=store,
        warn=lambda name, problem: warnings.append((name, problem)),
    )
    return values, warnings


def reference(name: str, key: str = "", value: str | None = None) -> MetadataItem:
    return MetadataItem(name="x", value=value, secret_key_ref=SecretKeyRef(name=name, key=key))


async def test_values_secrets_and_variables() -> None:
    """Written values stay, secrets are read with the key or the name, variables from the environment."""
    items = (
        MetadataItem(name="a", value="1"),
        MetadataItem(name="b", secret_key_ref=SecretKeyRef(name="redis", key="password")),
        MetadataItem(name="c", secret_key_ref=SecretKeyRef(name="user")),
        MetadataItem(name="d", env_ref="HOST"),
        MetadataItem(name="e"),
        MetadataItem(name="f", value="first"),
        MetadataItem(name="f", value="{appID}"),
    )
    values, warnings = await resolved(*items, HOST="h")
    assert values == {"a": "1", "b": "geheim", "c": "u", "d": "h", "e": "", "f": "{appID}"}
    assert warnings == []


@pytest.mark.parametrize(
    ("item", "value"),
    [
        (MetadataItem(name="x", value="v", env_ref="HOST"), "v"),
        (MetadataItem(name="x", value="", env_ref="HOST"), ""),
        (MetadataItem(name="x", env_ref="HOST", secret_key_ref=SecretKeyRef(name="user")), "h"),
        (reference("user", value="v"), "u"),
        (reference("missing", value="v"), "v"),
        (reference("none", value="v"), "v"),
    ],
)
async def test_which_of_several_counts(item: MetadataItem, value: str) -> None:
    """A variable counts only without a value, a secret goes before a value, and the value stands in for a missing one."""
    assert (await resolved(item, HOST="h"))[0] == {"x": value}


@pytest.mark.parametrize(
    ("item", "store", "message", "waits_for"),
    [
        (
            reference("missing"),
            "vault",
            "x: the secret missing of the store vault has no value under the key missing",
            "vault",
        ),
        (reference("none"), "vault", "x: the secret none of the store vault has no value under the key none", "vault"),
        (
            reference("redis", "pass"),
            "vault",
            "x: the secret redis of the store vault has no value under the key pass",
            "vault",
        ),
        (reference("user"), "gone", "x: the secret store gone is not loaded", "gone"),
        (reference("user"), "", "x: has a secretKeyRef, but the resource names no store in auth.secretStore", ""),
    ],
)
async def test_a_secret_that_cannot_be_had_is_an_error(
    item: MetadataItem, store: str, message: str, waits_for: str
) -> None:
    """A missing secret, key or store is an error that names them and the store to wait for."""
    with pytest.raises(UnresolvedError) as caught:
        await resolved(item, store=store)
    assert (str(caught.value), caught.value.store) == (message, waits_for)


@pytest.mark.parametrize("name", ["APP_API_TOKEN", "app_api_token", "DAPR_API_TOKEN", "dapr_x", "A B", ""])
def test_the_instances_own_variables_are_closed(name: str) -> None:
    """Tokens, the instance's settings and names with a space are never open to a component."""
    assert not env_ref_allowed(name, {name: "geheim"})


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("HOST", True), ("host", True), ("HOS", False), ("OST", False), ("PORT", True), ("OTHER", False)],
)
def test_the_list_of_open_variables(name: str, allowed: object) -> None:
    """With DAPR_ENV_KEYS only the variables it lists are open, whole names only."""
    assert env_ref_allowed(name, {"DAPR_ENV_KEYS": "XHOST HOST PORT"}) is allowed


async def test_a_closed_or_unset_variable_is_empty_with_a_warning() -> None:
    """The value stays empty and the warning names the variable, never what is in it."""
    closed, unset = MetadataItem(name="x", env_ref="DAPR_API_TOKEN"), MetadataItem(name="y", env_ref="NO")
    assert await resolved(closed, unset, DAPR_API_TOKEN="geheim") == (
        {"x": "", "y": ""},
        [
            ("x", "the environment variable DAPR_API_TOKEN is not open to resources; the value is empty"),
            ("y", "the environment variable NO is not set; the value is empty"),
        ],
    )


async def test_an_app_may_name_any_variable() -> None:
    """An App's own envRef is not limited: its token to the app usually is APP_API_TOKEN."""
    item = MetadataItem(name="apiToken", env_ref="APP_API_TOKEN")
    env = {"APP_API_TOKEN": "t"}
    assert await resolve_item(item, env=env, secret=read_secret, any_variable=True) == "t"
    assert await resolve_item(item, env=env, secret=read_secret) == ""


def test_templates() -> None:
    """Each template has Dapr's meaning; what is none stays."""
    text = render_templates("{appID}/{namespace}/{podName}/{other}/{", app_id="a", namespace="n", pod_name="p-{appID}")
    assert text == "a/n.a/p-{appID}/{other}/{"


def test_each_uuid_is_a_new_one() -> None:
    """Every {uuid} becomes a random UUID of its own."""
    one, other = render_templates("{uuid} {uuid}", app_id="a", namespace="n").split()
    assert one != other
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one)


def test_pod_name_without_a_pod_is_an_error() -> None:
    """{podName} needs POD_NAME."""
    with pytest.raises(TemplateError, match=r"uses \{podName\}, but the environment variable POD_NAME is not set"):
        render_templates("x-{podName}", app_id="a", namespace="n")


@pytest.mark.parametrize(
    ("text", "needs"), [("{appID}", True), ("a{namespace}", True), ("{uuid}{podName}", False), ("", False)]
)
def test_which_texts_differ_from_app_to_app(text: str, needs: object) -> None:
    """{appID} and {namespace} need an app, the other templates do not."""
    assert needs_app(text) is needs
