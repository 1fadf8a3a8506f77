"""The registry: who sees what, what is opened how often, and what a change does."""

from __future__ import annotations

import asyncio
import re

import pytest

from dapr_shared.components.definition import ComponentStartError, DuplicateComponentError
from dapr_shared.components.registry import Applied, ComponentRegistry
from dapr_shared.contracts.secretstores import SecretStore
from dapr_shared.contracts.state import StateStore
from dapr_shared.core.ids import AppRef
from dapr_shared.resources.model import MetadataItem, SecretKeyRef
from tests.support.component_fakes import EVENTS, Fake, define, fake_catalog

A, B, OTHER = AppRef("a"), AppRef("b"), AppRef("a", "other")
APPS = {A, B}


@pytest.fixture
async def problems():
    return []


@pytest.fixture
async def registry(problems):
    EVENTS.clear()
    registry = ComponentRegistry(fake_catalog(), drain_seconds=0, on_problem=problems.append)
    yield registry
    await registry.close()


async def settle(registry: ComponentRegistry) -> None:
    """Let everything that drains end."""
    async with asyncio.timeout(5):
        await asyncio.gather(*registry._drains)


def text_of(registry: ComponentRegistry, app: AppRef, name: str = "c") -> str | None:
    found = registry.find(Fake, app, name)
    return found and found.component.settings.text


async def test_found_by_kind_and_name(registry):
    """A component is found by its kind and name, with what blocks need to know; another kind or name is not."""
    await registry.open(define("c", type="secretstores.fake", version="v1"))
    found = registry.find(SecretStore, A, "c")
    assert found is not None
    assert (found.name, found.type, found.version, found.namespace) == ("c", "secretstores.fake", "v1", "default")
    assert found.capabilities == {"FAKE"}
    assert registry.find(SecretStore, A, "c") is found
    assert registry.find(StateStore, A, "c") is None
    assert registry.find(SecretStore, A, "C") is None
    assert (registry.has(SecretStore, A), registry.has(StateStore, A)) == (True, False)


async def test_what_is_applied_already_is_no_work(registry, monkeypatch):
    """The same components for the same apps again, in any order, touch nothing; those that failed are tried again."""
    one, two = define("one"), define("two")
    await registry.apply([one, two], APPS)
    shown = []
    monkeypatch.setattr(registry, "_show", shown.append)
    for again in ([one, two], [two, one]):
        assert await registry.apply(again, APPS) == Applied((), (), ())
    assert shown == []
    monkeypatch.undo()
    assert text_of(registry, A, "two") == "two"
    await registry.apply([one], APPS)
    assert (text_of(registry, A, "one"), text_of(registry, A, "two")) == ("one", None)
    wrong = define("wrong", {"fail": "no"})
    for _ in range(2):
        applied = await registry.apply([one, wrong], APPS)
        assert [error.component for error in applied.failures] == ["wrong"]
    assert EVENTS.count("open:wrong") == 2


async def test_absent_names_are_not_kept(registry):
    """Asking for names that do not exist takes no memory."""
    await registry.open(define("c"))
    for number in range(100):
        assert registry.find(Fake, A, f"absent-{number}") is None
    assert registry.find(Fake, A, "c") is not None
    assert len(registry._found) == 1


async def test_scopes(registry):
    """Only apps in scope see a component; without scopes all of its namespace do; another namespace never."""
    await registry.apply([define("all"), define("mine", scopes=("a",)), define("theirs", audience={B})], APPS)
    assert [opened.name for opened in registry.visible(A)] == ["all", "mine"]
    assert [opened.name for opened in registry.visible(B)] == ["all", "theirs"]
    assert registry.visible(OTHER) == ()
    assert registry.find(Fake, B, "mine") is None


async def test_opened_once_and_shared(registry):
    """A component is opened once, whatever the number of apps."""
    await registry.apply([define("c")], APPS)
    found = [registry.find(Fake, app, "c") for app in (A, B)]
    assert found[0] is found[1]
    assert EVENTS == ["open:c"]
    assert found[0].component.context.app_id is None


@pytest.mark.parametrize("template", ["{appID}", "{namespace}"])
async def test_opened_once_an_app(registry, template):
    """A component whose metadata names the app is opened for each app that sees it, with its own values."""
    await registry.apply([define("c", {"text": f"for {template}"}, scopes=("a", "b", "later"))], {*APPS, AppRef("x")})
    expected = {A: "for a", B: "for b"} if template == "{appID}" else {A: "for default.a", B: "for default.b"}
    assert {app: text_of(registry, app) for app in APPS} == expected
    assert registry.find(Fake, A, "c").component.context.app_id == "a"
    assert text_of(registry, AppRef("x")) is None
    assert len(registry.all_open()) == 2


async def test_apps_come_and_go(registry):
    """What is opened once an app is opened when the app comes and closed when it goes; the others are left alone."""
    await registry.apply([define("c", {"text": "{appID}"}), define("shared")], {A})
    applied = await registry.set_apps({B})
    await settle(registry)
    assert (text_of(registry, A), text_of(registry, B)) == (None, "b")
    assert (applied.opened, applied.closed) == (("c",), ("c",))
    assert EVENTS == ["open:a", "open:shared", "open:b", "close:a"]


async def test_single_app_mode():
    """In single-app mode the app's id fills the templates and components out of its scope are not opened."""
    EVENTS.clear()
    registry = ComponentRegistry(fake_catalog(), single_app=A)
    await registry.apply([define("c", {"text": "{appID} {namespace}"}), define("x", scopes=("b",))], ())
    found = registry.find(Fake, A, "c")
    assert (found.component.settings.text, found.component.context.app_id) == ("a default.a", "a")
    assert EVENTS == ["open:a default.a"]
    assert found.one_app
    await registry.close()


async def test_templates(registry, monkeypatch):
    """Each {uuid} is another random UUID and {podName} is the variable POD_NAME."""
    monkeypatch.setenv("POD_NAME", "pod-1")
    await registry.open(define("c", {"text": "{uuid} {uuid} {podName}"}))
    first, second, pod = text_of(registry, A).split()
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first)
    assert first != second
    assert pod == "pod-1"


async def test_no_pod_name(registry, monkeypatch):
    """{podName} without the variable is an error that names component, file and field."""
    monkeypatch.delenv("POD_NAME", raising=False)
    with pytest.raises(ComponentStartError) as caught:
        await registry.open(define("c", {"text": "{podName}"}, file="x.yaml"))
    assert str(caught.value) == (
        "component c (fake.one) in x.yaml, document 1, line 1: spec.metadata text: uses {podName}, but the environment "
        "variable POD_NAME is not set"
    )


@pytest.mark.parametrize(
    ("definition", "problem"),
    [
        (define(values={"number": "x"}), "spec.metadata number: expected a whole number, found 'x'"),
        (define(values={"fail": "no route"}), "no route"),
        (define(values={"hang": "true"}, init_timeout=0.01), "not started within spec.initTimeout (0.01 s)"),
        (define(type="fake.two"), "spec.type: unknown component type 'fake.two': did you mean fake.one or fake.1?"),
        (define(type="fake.one", version="v7"), "spec.version: fake.one has no version 'v7'; it has v1"),
        (define(values={"Text": "twice"}), "spec.metadata Text: given twice: also as 'text' (names ignore case)"),
    ],
)
async def test_start_errors(registry, definition, problem):
    """A component that does not start is an error that says which, where and why; nothing of it stays open."""
    with pytest.raises(ComponentStartError) as caught:
        await registry.open(definition)
    assert str(caught.value).startswith(f"component c ({definition.resource.type}) in c.yaml, document 1, line 1: ")
    assert caught.value.problem == problem
    assert caught.value.__cause__ is not None
    assert EVENTS in ([], ["open:c", "close:c"])
    assert registry.find(Fake, A, "c") is None


async def test_failed_start_that_does_not_close(registry):
    """A component that fails to start and then to close is the error of its start."""
    with pytest.raises(ComponentStartError, match="no route"):
        await registry.open(define("c", {"fail": "no route", "failToClose": "1"}))


async def test_ignored_errors(registry, problems):
    """With ignoreErrors the start goes on and the problem is reported."""
    await registry.open(define("c", {"fail": "no route"}, ignore_errors=True))
    await registry.open(define("d"))
    assert [problem.problem for problem in problems] == ["no route"]
    assert [opened.name for opened in registry.visible(A)] == ["d"]


async def test_secrets_stay_out_of_texts(registry):
    """Neither definitions nor what is found show metadata values, and runtime metadata is there for blocks."""
    key = "00112233445566778899aabbccddeeff"
    item = MetadataItem(name="primaryEncryptionKey", secret_key_ref=SecretKeyRef(name="k"))
    definition = define(
        "s", {"keyPrefix": "none", "primaryEncryptionKey": key}, type="state.in-memory", metadata=(item,)
    )
    await registry.open(definition)
    found = registry.find(StateStore, A, "s")
    assert found.runtime_metadata == {"keyprefix": "none"}
    assert (found.encryption.primary.name, found.encryption.primary.secret) == ("k", bytes.fromhex(key))
    assert key not in repr(definition) + repr(found)


async def test_encryption_keys_of_a_component(registry):
    """A wrong key fails the start of its component; a key under another name is another component."""
    item = MetadataItem(name="primaryEncryptionKey", secret_key_ref=SecretKeyRef(name="k"))
    wrong = define("s", {"primaryEncryptionKey": "abc"}, type="state.in-memory", metadata=(item,))
    with pytest.raises(ComponentStartError, match="primaryEncryptionKey: must be an AES key"):
        await registry.open(wrong)
    values = {"primaryEncryptionKey": "00112233445566778899aabbccddeeff"}
    renamed = MetadataItem(name="primaryEncryptionKey", secret_key_ref=SecretKeyRef(name="other"))
    one, other = (define("s", values, type="state.in-memory", metadata=(m,)) for m in (item, renamed))
    assert one.opening_key != other.opening_key


@pytest.mark.parametrize(
    ("first", "second", "legal"),
    [
        ({}, {}, False),
        ({"scopes": ("a",)}, {}, False),
        ({"scopes": ("a", "b")}, {"scopes": ("b", "c")}, False),
        ({"scopes": ("a",)}, {"scopes": ("b",)}, True),
        ({"audience": {A}}, {"audience": {B}}, True),
        ({"audience": {A}}, {"audience": {A, B}}, False),
        ({"audience": {A}}, {}, False),
        ({"audience": {A}}, {"scopes": ("b",)}, True),
        ({}, {"namespace": "other"}, True),
    ],
)
async def test_two_of_one_name(registry, first, second, legal):
    """Two components of one name are legal exactly when no app sees both; else the error names both files."""
    definitions = [
        define("c", {"text": "1"}, file="1.yaml", **first),
        define("c", {"text": "2"}, file="2.yaml", **second),
    ]
    applied = await registry.apply(definitions, APPS)
    assert bool(applied.failures) is not legal
    if legal:
        assert len(registry.all_open()) == 2
    else:
        (error,) = applied.failures
        assert isinstance(error, DuplicateComponentError)
        assert "2.yaml" in str(error)
        assert "1.yaml" in str(error)
        assert registry.all_open() == ()


async def test_taken_name_at_the_start(registry):
    """The second component of one name is refused and the first stays."""
    await registry.open(define("c", {"text": "1"}))
    with pytest.raises(DuplicateComponentError):
        await registry.open(define("c", {"text": "2"}, file="2.yaml"))
    assert text_of(registry, A) == "1"
    await registry.open(define("d"))


async def test_equal_ones_are_opened_once(registry):
    """Two equal definitions for two audiences (two apps' own folders) share one open component."""
    await registry.apply([define("c", audience={A}), define("c", audience={B}, file="2.yaml")], APPS)
    assert registry.find(Fake, A, "c") is registry.find(Fake, B, "c")
    assert EVENTS == ["open:c"]


async def test_change_swaps_and_drains():
    """A changed component is opened anew and found at once; the old one is closed after calls had time to end."""
    EVENTS.clear()
    registry = ComponentRegistry(fake_catalog(), drain_seconds=60)
    await registry.apply([define("c", {"text": "1"}), define("same")], APPS)
    old, same = registry.find(Fake, A, "c"), registry.find(Fake, A, "same")
    applied = await registry.apply([define("c", {"text": "2"}), define("same")], APPS)
    assert (applied.opened, applied.closed, applied.failures) == (("c",), ("c",), ())
    assert text_of(registry, A) == "2"
    assert registry.find(Fake, A, "same") is same
    await asyncio.sleep(0)
    assert not old.component.closed
    async with asyncio.timeout(5):
        await registry.close()
    assert old.component.closed
    assert ["open:1", "open:same", "open:2", *EVENTS[3:]] == EVENTS
    assert sorted(EVENTS[3:]) == ["close:1", "close:2", "close:same"]
    await registry.close()


async def test_new_scopes_open_nothing(registry):
    """A change of scopes alone changes who sees the component, which stays open with all that is in it."""
    await registry.apply([define("c")], APPS)
    found = registry.find(Fake, A, "c")
    applied = await registry.apply([define("c", scopes=("a",))], APPS)
    assert (applied.opened, applied.closed) == ((), ())
    assert registry.find(Fake, A, "c").component is found.component
    assert registry.find(Fake, B, "c") is None


async def test_what_is_of_one_app(registry):
    """Scopes of one app make a component that app's, also where it stays open; more scopes, or a place, do not."""
    await registry.apply([define("c", {"text": "x"})], {A})
    assert not registry.find(Fake, A, "c").one_app
    for scope in ({"scopes": ("a",)}, {"scopes": ("a", "a")}):
        await registry.apply([define("c", {"text": "x"}, **scope)], APPS)
        assert registry.find(Fake, A, "c").one_app
    for scope in ({"scopes": ("a", "b")}, {"audience": {A}}, {}):
        await registry.apply([define("c", {"text": "x"}, **scope)], {A})
        assert not registry.find(Fake, A, "c").one_app


@pytest.mark.parametrize("template", ["g-{appID}", "{namespace}"])
async def test_values_that_name_the_app(registry, template):
    """The registry tells which values are of one app alone."""
    await registry.apply([define("c", {"text": template})], APPS)
    assert registry.find(Fake, A, "c").naming_app == {"text"}


async def test_removed(registry):
    """A component that is no longer wanted is not found and is closed."""
    await registry.apply([define("c"), define("d")], APPS)
    applied = await registry.apply([define("d")], APPS)
    await settle(registry)
    assert (applied.opened, applied.closed) == ((), ("c",))
    assert text_of(registry, A) is None
    assert EVENTS[-1] == "close:c"


async def test_failure_keeps_the_old(registry):
    """A change that fails leaves the old component in place and says why; what else changed is applied."""
    await registry.apply([define("c", {"text": "1"}), define("d", {"text": "1"})], APPS)
    broken = [define("c", {"text": "2", "fail": "no route"}), define("d", {"text": "2"})]
    applied = await registry.apply(broken, APPS)
    await settle(registry)
    assert [error.problem for error in applied.failures] == ["no route"]
    assert (text_of(registry, A), text_of(registry, A, "d")) == ("1", "2")
    assert (applied.opened, applied.closed) == (("d",), ("d",))
    applied = await registry.apply([define("c", {"text": "3"}), define("d", {"text": "2"})], APPS)
    assert (applied.failures, text_of(registry, A)) == ((), "3")


async def test_failure_keeps_all_of_the_name(registry):
    """Where one of two components of a name fails, both old ones stay: no app loses sight of the name."""
    await registry.apply([define("c", {"text": "1"})], APPS)
    split = [
        define("c", {"text": "for a"}, scopes=("a",)),
        define("c", {"text": "for b", "fail": "no"}, scopes=("b",), file="2.yaml"),
    ]
    await registry.apply(split, APPS)
    await settle(registry)
    assert (text_of(registry, A), text_of(registry, B)) == ("1", "1")
    assert "close:for a" in EVENTS


async def test_failure_for_one_app(registry):
    """Where a component is opened once an app, one app's failure is that app's alone; its old one stays."""
    await registry.apply([define("c", {"text": "old {appID}"})], APPS)
    values = {"text": "new {appID}", "hang": "{appID}"}  # the word "t" is Dapr's true
    true_app = AppRef("t")
    applied = await registry.apply([define("c", values, init_timeout=0.05)], {*APPS, true_app})
    await settle(registry)
    assert [error.problem for error in applied.failures] == [
        "for the app t.default: not started within spec.initTimeout (0.05 s)"
    ]
    assert {app: text_of(registry, app) for app in APPS} == {A: "new a", B: "new b"}
    assert text_of(registry, true_app) is None


async def test_old_stays_for_one_app(registry):
    """An app whose own new component fails keeps the old one, which the others no longer see."""
    t = AppRef("t")
    await registry.apply([define("c", {"text": "shared"})], {A, t})
    await registry.apply([define("c", {"text": "{appID}", "hang": "{appID}"}, init_timeout=0.05)], {A, t})
    await settle(registry)
    assert (text_of(registry, A), text_of(registry, t)) == ("a", "shared")
    assert "close:shared" not in EVENTS


async def test_cancelled_change(registry):
    """A change that is cancelled has changed nothing and left nothing open."""
    await registry.apply([define("c", {"text": "1"})], APPS)
    changing = asyncio.ensure_future(
        registry.apply([define("c", {"text": "2"}), define("d", {"hang": "true"}, init_timeout=60)], APPS)
    )
    async with asyncio.timeout(5):
        while "open:2" not in EVENTS:  # noqa: ASYNC110 - the fakes send no event
            await asyncio.sleep(0)
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await changing
    assert text_of(registry, A) == "1"
    assert EVENTS.count("open:2") == EVENTS.count("close:2") == 1
    assert EVENTS.count("open:d") == EVENTS.count("close:d")


async def test_close_errors_are_reported(registry, problems):
    """A component that does not close cleanly is reported, and the others are closed."""
    await registry.apply([define("c", {"failToClose": "yes"}), define("d")], APPS)
    await registry.close()
    assert [problem.problem for problem in problems] == ["closing failed: will not close"]
    assert sorted(EVENTS[2:]) == ["close:c", "close:d"]
    assert registry.visible(A) == ()


async def test_changes_do_not_overlap(registry):
    """Changes at the same time are applied one after the other; the last one wins."""
    await asyncio.gather(*(registry.apply([define("c", {"text": str(number)})], APPS) for number in range(5)))
    await settle(registry)
    assert text_of(registry, A) == "4"
    assert len(EVENTS) == 9


@pytest.mark.parametrize(
    ("template", "prefixes"), [("{appID}", ("a", "b")), ("{namespace}", ("default.a", "default.b"))]
)
async def test_key_prefixes_with_templates(registry, tmp_path, template, prefixes):
    """A prefix that names the app is each app's own, so that none reads what another has saved in the same file."""
    values = {"connectionString": str(tmp_path / "s.db"), "keyPrefix": template}
    await registry.apply([define("s", values, type="state.sqlite")], APPS)
    found = [registry.find(StateStore, app, "s") for app in (A, B)]
    assert tuple(opened.runtime_metadata["keyprefix"] for opened in found) == prefixes


async def test_preview(registry):
    """A component can be looked at as an app would see it, without opening it; one that cannot be made is none."""
    definition = define("c", {"text": "for {appID}"})
    assert registry.preview(definition, A).component.settings.text == "for a"
    assert registry.preview(define("c", {"number": "x"}), A) is None
    assert registry.preview(define("c", type="fake.none"), A) is None
    assert EVENTS == []
