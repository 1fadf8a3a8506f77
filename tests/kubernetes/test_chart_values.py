"""Values that cannot be: what is said, and by the schema, what is taken all the same."""

from __future__ import annotations

import base64
import json

import pytest
import yaml

from tests.support.chart import CHART, ONE_APP, ChartError, container, merged, one, render, shared

pytestmark = pytest.mark.kubernetes
MANY = {"shared": {"multiApp": {"enabled": True}}}
APP = {"appId": "stock"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, ".Values.shared.appId is required"),
        ({"shared": {"appId": "orders", "remotePort": None}}, ".Values.shared.remotePort is required"),
        (shared(daprd={"app": {"protocol": None}}), ".Values.shared.daprd.app.protocol is required"),
        (shared(strategy="statefulset"), "at '/shared/strategy': value must be one of 'daemonset', 'deployment'"),
        (shared(appId="Orders_1"), '.Values.shared.appId is "Orders_1", which cannot name the Service <appId>-dapr'),
        (shared(hostPort={"enabled": True}, strategy="deployment"), "hostPort.enabled is for the strategy daemonset"),
        (
            shared(watchNamespaces=["tools"]),
            ".Values.shared.watchNamespaces is for many apps: set .Values.shared.multiApp",
        ),
        (shared(identity={"byAddress": True}), ".Values.shared.identity.byAddress is for many apps"),
        (merged(ONE_APP, MANY, {"shared": {"watchNamespaces": ["tools"]}}), "watchNamespaces lacks shop"),
        ({"apps": [APP, APP]}, ".Values.apps[1].appId: stock is the app of .Values.apps[0] already"),
        (merged(ONE_APP, {"apps": [{"appId": "orders"}]}), "orders is the app of .Values.shared.appId already"),
        ({"apps": [{**APP, "namespace": "tools"}]}, "tools is not among .Values.shared.watchNamespaces"),
        ({"apps": [{**APP, "chanel": {}}]}, "additional properties 'chanel' not allowed"),
        ({"apps": [{**APP, "channel": {"port": 0}}]}, "at '/apps/0/channel/port'"),
        ({"apps": [{**APP, "tokens": [{}]}]}, "at '/apps/0/tokens/0'"),
        ({"apps": [{}]}, "missing property 'appId'"),
        ({"shared": {"multiApp": {"enable": True}}}, "additional properties 'enable' not allowed"),
        (shared(clusterDomain="http://example.org"), "at '/shared/clusterDomain'"),
        (shared(daprd={"httpPort": 99999}), "at '/shared/daprd/httpPort'"),
        (merged(ONE_APP, {"imagePullSecrets": [{}]}), "at '/imagePullSecrets'"),
    ],
)
def test_what_cannot_be(values, said):
    """A release that could not work is refused with a sentence that names the value; the existing chart's are kept."""
    with pytest.raises(ChartError) as caught:
        render(values)
    assert said in str(caught.value)


def test_an_unknown_strategy_without_the_schema():
    """An unknown strategy is an error of the templates too, for those who skip the schema."""
    with pytest.raises(ChartError, match=r'\.Values\.shared\.strategy is "statefulset": use daemonset or deployment'):
        render(shared(strategy="statefulset"), "--skip-schema-validation")


def test_words_of_set_string():
    """Numbers and truths given as texts, and keys that nobody knows in old places, are taken, as they are today."""
    texts = {
        "remotePort": "8080",
        "daprd": {"httpPort": "3500", "metrics": {"enabled": "true"}},
        "log": {"json": "true"},
    }
    assert render(shared(**texts)) == render(ONE_APP)
    assert render(shared(daprd={"unknown": {"key": 1}}, unknown=[1])) == render(ONE_APP)


def test_large_and_broken_numbers():
    """Numbers arrive as they were written, not as Go writes large ones; texts that look like numbers are no numbers."""
    values = shared(
        daprd={
            "token": 1234567890, "image": {"tag": 1.15},
            "appHealth": {"enabled": True, "probeTimeout": 3600000, "probeInterval": 10000000},
        },
        initContainer={"token": 20261128},
    )  # fmt: skip
    objects = render(values)
    words = container(objects)["args"]
    assert {"--app-health-probe-timeout=3600000", "--app-health-probe-interval=10000000"} < set(words)
    assert container(objects)["image"].endswith(":1.15")
    data = one(objects, "Secret")["data"]
    assert (base64.b64decode(data["dapr-api-token"]), base64.b64decode(data["app-api-token"])) == (
        b"1234567890", b"20261128",
    )  # fmt: skip


def test_a_switch_given_as_a_text():
    """A switch given as the text "false" is off."""
    off = {"hostPort": {"enabled": "false"}, "networkPolicy": {"enabled": "false"}, "multiApp": {"enabled": "false"}}
    assert render(shared(**off)) == render(ONE_APP)


def test_the_schema_knows_every_value():
    """Every key of values.yaml is in the schema, so that an editor offers it and a wrong type is an error."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def absent(values: dict, schema: dict, place: str) -> list[str]:
        known = schema.get("properties", {})
        missing = [f"{place}.{key}" for key in values if key not in known]
        for key, value in values.items():
            if isinstance(value, dict) and "properties" in known.get(key, {}):
                missing += absent(value, known[key], f"{place}.{key}")
        return missing

    assert not absent(values, schema, "")
