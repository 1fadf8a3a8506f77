from __future__ import annotations

from typing import Any

import pytest

from dapr_shared.contracts.registry import Opened
from dapr_shared.core.ids import AppRef
from dapr_shared.identity.caller import Caller, Evidence, RegisteredApp
from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.resources.model import App


class FakeComponents:
    """The components that one app, `orders`, sees."""

    def __init__(self) -> None:
        self.opened: dict[str, Opened] = {}

    def add(self, component: Any, name: str = "store", *, metadata: dict[str, str] | None = None) -> Any:
        capabilities = component.effective_capabilities()
        self.opened[name] = Opened(name, "fake", "v1", "default", capabilities, metadata or {}, component)
        return component

    def find(self, contract: type, app: AppRef, name: str) -> Opened | None:
        opened = self.opened.get(name)
        if app.app_id == "blind" or opened is None or not isinstance(opened.component, contract):
            return None
        return opened

    def has(self, contract: type, app: AppRef) -> bool:
        return app.app_id != "blind" and any(isinstance(o.component, contract) for o in self.opened.values())

    def visible(self, app: AppRef) -> list[Opened]:
        return [] if app.app_id == "blind" else [self.opened[name] for name in sorted(self.opened)]


def make_caller(app_id: str = "orders", namespace: str = "default", given_namespace: str = "") -> Caller:
    record = RegisteredApp(
        AppRef(app_id, namespace), App(name=app_id, app_id=app_id, namespace=namespace), given_namespace=given_namespace
    )
    return Caller(record, (Evidence.TOKEN,))


@pytest.fixture
def components() -> FakeComponents:
    return FakeComponents()


@pytest.fixture
def metrics() -> DaprMetrics:
    return DaprMetrics()


@pytest.fixture
def caller() -> Caller:
    return make_caller()


@pytest.fixture
def caller_of():
    """Callers that differ in app id or namespace."""
    return make_caller


@pytest.fixture
def count(metrics):
    """The sum of the samples of a metric whose labels are these."""

    def find(name: str, **labels: str) -> float:
        lines = b"".join(metrics.registry.chunks()).decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = [line for line in lines if line.startswith(f"{name}{{") and all(text in line for text in wanted)]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    return find
