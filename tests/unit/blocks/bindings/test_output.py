"""Output bindings: what is checked before the external system is called."""

from __future__ import annotations

import pytest

from dapr_shared.blocks.bindings.output import BindingsBlock, has_direction
from dapr_shared.contracts.bindings import (
    BindingCapability,
    BindingError,
    BindingRequest,
    BindingResponse,
    OutputBinding,
)
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.settings import Settings
from dapr_shared.core.errors import DaprError


class FakeOutput(OutputBinding[Settings]):
    """Keeps what it is asked."""

    settings_type = Settings
    capabilities = frozenset({BindingCapability.OUTPUT_BINDING})
    operations = ("create",)

    def __init__(self) -> None:
        super().__init__(Settings(), ComponentContext("out", "fake"))
        self.asked: list[BindingRequest] = []
        self.error: Exception | None = None

    async def start(self, stack) -> None:
        """Nothing to open."""

    def data_location(self) -> str | None:
        return None

    async def invoke(self, request):
        self.asked.append(request)
        if self.error:
            raise self.error
        return BindingResponse(b"done")


@pytest.fixture
def block(components, metrics) -> BindingsBlock:
    return BindingsBlock(components, metrics)


async def test_a_call(block, components, caller, count):
    """Operation, data and metadata reach the system, its answer comes back, and it is counted."""
    out = components.add(FakeOutput(), "out")
    answer = await block.invoke(caller, "out", "create", b"x", {"k": "v"})
    assert answer == BindingResponse(b"done")
    assert out.asked == [BindingRequest("create", b"x", {"k": "v"})]
    assert count("dapr_component_output_binding_count", component="out", operation="create", success="true") == 1


@pytest.mark.parametrize(
    ("name", "operation", "words"),
    [
        ("out", "", "operation field is missing"),
        ("absent", "create", "couldn't find output binding absent"),
        ("input", "create", "couldn't find output binding input"),
        ("out", "Create", "does not support operation Create. supported operations:create"),
    ],
)
async def test_what_is_refused(block, components, caller, name, operation, words):
    """A missing or unknown operation, an unknown binding, one that is for input alone: the system is not called."""
    out = components.add(FakeOutput(), "out")
    alone = components.add(FakeOutput(), "input", metadata={"direction": "input"})
    with pytest.raises(DaprError, match=words):
        await block.invoke(caller, name, operation, b"", {})
    assert out.asked == alone.asked == []


async def test_a_binding_of_another_app(block, components, caller_of):
    """What an app does not see it does not find."""
    components.add(FakeOutput(), "out")
    with pytest.raises(DaprError, match="couldn't find output binding out"):
        await block.invoke(caller_of("blind"), "out", "create", b"", {})


async def test_a_failure_carries_what_the_system_answered(block, components, caller):
    """The metadata of the answer are the error's."""
    out = components.add(FakeOutput(), "out")
    out.error = BindingError("status 500", BindingResponse(metadata={"statusCode": "500"}))
    with pytest.raises(DaprError, match="status 500") as raised:
        await block.invoke(caller, "out", "create", b"", {})
    assert raised.value.metadata == {"statusCode": "500"}


@pytest.mark.parametrize(
    ("text", "given"),
    [(None, True), ("", True), ("  ", True), ("output", True), ("input", False), ("input, Output", True), ("x", False)],
)
def test_directions(components, text, given):
    """`direction` is a list without regard to case; empty or absent, the default counts."""
    components.add(FakeOutput(), "out", metadata={} if text is None else {"direction": text})
    assert has_direction(components.opened["out"], "output", otherwise=True) is given
    assert has_direction(components.opened["out"], "output", otherwise=False) is (given and bool((text or "").strip()))
