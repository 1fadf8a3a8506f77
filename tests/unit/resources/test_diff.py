"""The plan from one set of resources to another."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.resources.diff import Change, Changes, Plan, diff, same
from dapr_shared.resources.loader import Resources
from dapr_shared.resources.model import App, Component, Configuration, MetadataItem, Other
from dapr_shared.resources.origin import Origin
from tests.support.resource_files import APP_HEAD, COMPONENT_HEAD, load_text


def component(name: str, value: str = "", *, scopes: tuple[str, ...] = (), line: int = 0) -> Component:
    items = (MetadataItem(name="v", value=value),)
    return Component(name=name, type="state.x", metadata=items, scopes=scopes, origin=Origin("f", 1, line))


def test_added_changed_removed() -> None:
    """Each resource is in the list where it belongs, with its state before and after."""
    kept, old, gone, new, come = (
        component("kept"),
        component("c", "1"),
        component("gone"),
        component("c", "2"),
        component("come"),
    )
    plan = diff(Resources(components=(kept, old, gone)), Resources(components=(come, new, kept)))
    assert plan == Plan(components=Changes(added=(come,), changed=(Change(old, new),), removed=(gone,)))
    assert plan
    assert not plan.apps


def test_moving_a_resource_changes_nothing(tmp_path: Path) -> None:
    """The same resources from another file, in another order and at other lines, make an empty plan."""
    texts = [f"{APP_HEAD}spec: {{channel: {{port: 80}}}}\n", f"{COMPONENT_HEAD}spec: {{type: a.b}}\n"]
    one = load_text(tmp_path, "---\n".join(texts), file="one.yaml")
    two = load_text(tmp_path, "# moved\n" + "---\n".join(reversed(texts)), file="two.yaml")
    assert not diff(one, two)
    assert same(one.apps[0], two.apps[0])
    assert one.apps[0] != two.apps[0]


def test_every_kind_has_its_changes() -> None:
    """All kinds of a set are compared; notices are not."""
    new = Resources(
        apps=(App(name="a", app_id="a"),),
        configurations=(Configuration(name="c"),),
        others=(Other(kind="MCPServer", api_version="v", name="m"),),
    )
    plan = diff(Resources(), new)
    assert (plan.apps.added, plan.configurations.added, plan.others.added) == (new.apps, new.configurations, new.others)
    assert set(Plan.__struct_fields__) == set(Resources.__struct_fields__) - {"notices"}
    assert diff(new, Resources()).apps.removed == new.apps


def test_namespaces_and_kinds_tell_resources_apart() -> None:
    """One name in two namespaces, or of two kinds without effect, is two resources."""
    one = App(name="a", app_id="a", namespace="n")
    plan = diff(Resources(apps=(one,)), Resources(apps=(msgspec.structs.replace(one, namespace="m"),)))
    assert len(plan.apps.added) == len(plan.apps.removed) == 1
    server = Other(kind="MCPServer", api_version="v", name="m")
    policy = msgspec.structs.replace(server, kind="WorkflowAccessPolicy")
    assert diff(Resources(others=(server,)), Resources(others=(policy,))).others.changed == ()


def test_components_of_one_name_for_different_apps() -> None:
    """Of several with one name, those that are equal belong together whatever their order."""
    a, b, b2 = component("s", scopes=("a",)), component("s", "1", scopes=("b",)), component("s", "2", scopes=("b",))
    plan = diff(Resources(components=(a, b)), Resources(components=(b2, a)))
    assert plan.components == Changes(changed=(Change(b, b2),))


@given(
    st.lists(st.builds(component, st.sampled_from("abc"), st.sampled_from("12"), line=st.integers(1, 9)), max_size=6),
    st.lists(st.builds(component, st.sampled_from("abc"), st.sampled_from("12"), line=st.integers(1, 9)), max_size=6),
)
def test_a_plan_leads_from_the_old_to_the_new(old: list[Component], new: list[Component]) -> None:
    """Taking away what is removed, exchanging what changed and adding what is added gives the new set."""
    plan = diff(Resources(components=tuple(old)), Resources(components=tuple(new))).components
    left = [msgspec.structs.replace(one, origin=Origin("")) for one in old]
    for gone in (*plan.removed, *(change.old for change in plan.changed)):
        left.remove(msgspec.structs.replace(gone, origin=Origin("")))
    left += [
        msgspec.structs.replace(one, origin=Origin(""))
        for one in (*plan.added, *(change.new for change in plan.changed))
    ]
    wanted = [msgspec.structs.replace(one, origin=Origin("")) for one in new]
    assert sorted(map(repr, left)) == sorted(map(repr, wanted))
    assert sorted((one.name, one.metadata[0].value or "") for one in left) == sorted(
        (one.name, one.metadata[0].value or "") for one in wanted
    )
    assert not (plan.added and plan.removed and {one.name for one in plan.added} & {one.name for one in plan.removed})


def test_a_set_and_a_plan_cannot_be_changed() -> None:
    """Resources and plans are frozen."""
    with pytest.raises(AttributeError):
        Resources().apps = ()  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Plan().apps = Changes()  # type: ignore[misc]
