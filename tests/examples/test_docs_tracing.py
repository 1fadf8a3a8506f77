"""The YAML of docs/tracing.md is what the instance takes, and does what the page says."""

from __future__ import annotations

import re

from tests.support.calls import ask
from tests.support.collector import collector
from tests.support.demo import CHECKOUT
from tests.support.instance import free_ports, running

_BLOCK = re.compile(r"<!-- file: ([^>]*?) -->\n```yaml\n(.*?)```", re.DOTALL)
FILES = dict(_BLOCK.findall((CHECKOUT / "docs/tracing.md").read_text(encoding="utf-8")))


def test_the_files_of_the_page(tmp_path):
    """Spans of `orders` come to both collectors of the page; the API log obfuscates; nothing is ignored in the files."""
    grpc_port, http_port = free_ports(2)
    text = FILES["tracing.yaml"].replace("localhost:4317", f"127.0.0.1:{grpc_port}")
    text = text.replace("localhost:9411", f"127.0.0.1:{http_port}")
    (tmp_path / "resources").mkdir()
    (tmp_path / "resources/tracing.yaml").write_text(text)
    (tmp_path / "resources/apps.yaml").write_text(FILES["apps.yaml"])
    (tmp_path / "api-log.yaml").write_text(FILES["api-log.yaml"])
    flags = ["--apps", str(tmp_path / "resources"), "--config", str(tmp_path / "api-log.yaml")]
    with (
        collector(tmp_path / "collector", ports=(grpc_port, http_port)) as collected,
        running(tmp_path, *flags, env={"ORDERS_TOKEN": "a-token"}) as instance,
    ):
        answer = ask(instance.http, "GET", "/v1.0/metadata", headers=[("dapr-api-token", "a-token")])
        assert answer.status == 200
        ask(instance.http, "GET", "/v1.0/metadata")
        spans = collected.wait_for(2, name="/v1.0/metadata")
        assert {span["protocol"] for span in spans} == {"otlp-grpc", "zipkin"}
        assert {span["service"] for span in spans} == {"orders"}
        assert instance.wait_for_line("HTTP API Called")["method"] == "GetMetadata"
        assert not [line for line in instance.log() if line["msg"] == "resource notice"]
        assert "a-token" not in instance.output()
