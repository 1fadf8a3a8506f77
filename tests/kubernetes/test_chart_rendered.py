"""Whole releases: as they are written down, and as the schemas of Kubernetes want them.

`GOLDEN=write` in the environment writes the files anew; read the difference before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from dapr_shared.resources.loader import load
from tests.support.chart import CHART, MIDDLE, NEWEST, OLDEST, ONE_APP, merged, one, render

pytestmark = pytest.mark.kubernetes
FILES = Path(__file__).parent / "chart"
DEPLOYMENT = merged(ONE_APP, {"shared": {"strategy": "deployment"}})
FULL = yaml.safe_load((FILES / "full-values.yaml").read_text(encoding="utf-8"))
OLD = yaml.safe_load((FILES / "old-values.yaml").read_text(encoding="utf-8"))
RELEASES = {"daemonset": ONE_APP, "deployment": DEPLOYMENT, "full": FULL, "old": OLD}
GENERATED = {"stock-dapr-token": "token"}
"""Secrets with tokens that are made anew each time."""


class Readable(yaml.SafeDumper):
    """Writes texts of several lines as such."""


Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


@pytest.mark.parametrize("name", RELEASES)
def test_golden_files(name):
    """What a release renders is what the golden file says, object for object."""
    objects = render(RELEASES[name])
    for each in objects:
        key = GENERATED.get(each["metadata"]["name"])
        if each["kind"] == "Secret" and key:
            assert len(each["data"][key]) == 56
            each["data"][key] = "Z2VuZXJhdGVk"
    objects.sort(key=lambda each: (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]))
    file = FILES / f"{name}.golden.yaml"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(yaml.dump_all(objects, Dumper=Readable, width=120, sort_keys=False), encoding="utf-8")
    assert objects == list(yaml.load_all(file.read_text(encoding="utf-8"), yaml.CSafeLoader))


@pytest.mark.parametrize("version", [NEWEST, MIDDLE, OLDEST])
def test_schemas_of_kubernetes(version):
    """Every object is one that this version of Kubernetes knows, field for field."""
    for values in RELEASES.values():
        for each in render(values, kubernetes=version):
            if each["kind"] != "ServiceMonitor":
                kubernetes_validate.validate(each, version, strict=True)
    for file in sorted((CHART / "crds").glob("*.yaml")):
        kubernetes_validate.validate(yaml.safe_load(file.read_text(encoding="utf-8")), version, strict=True)


def test_the_apps_can_be_read(tmp_path):
    """The `apps` of the values become App resources that the runtime reads without a complaint."""
    (tmp_path / "apps.yaml").write_text(one(render(FULL), "ConfigMap")["data"]["apps.yaml"], encoding="utf-8")
    resources = load([tmp_path])
    assert not resources.notices
    assert [(each.namespace, each.app_id) for each in resources.apps] == [
        ("shop", "stock"), ("tools", "bill"), ("shop", "mail"),
    ]  # fmt: skip
    stock = resources.apps[0]
    assert stock.channel is not None
    assert (stock.channel.port, stock.channel.max_concurrency) == (8002, 20)
    assert stock.tokens[0].secret_key_ref is not None
    assert stock.tokens[0].secret_key_ref.name == "stock-dapr-token"
    assert resources.apps[2].service_account == "shop:mailer"


def test_no_apps_can_be_read(tmp_path):
    """A release for many apps that has none yet mounts a file that holds no App, which is no error."""
    objects = render({"shared": {"multiApp": {"enabled": True}}})
    (tmp_path / "apps.yaml").write_text(one(objects, "ConfigMap")["data"]["apps.yaml"], encoding="utf-8")
    assert not load([tmp_path], allow_empty=True).apps
