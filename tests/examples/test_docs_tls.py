"""The commands of docs/tls.md work as they stand there, but for ports."""

from __future__ import annotations

import os
import re
import shlex
import subprocess

from tests.support.demo import CHECKOUT
from tests.support.instance import running
from tests.support.required import need_command

_BLOCK = re.compile(r"<!-- (run|file): ([^>]*?) -->\n```\w+\n(.*?)```", re.DOTALL)
BLOCKS = {name: text for _, name, text in _BLOCK.findall((CHECKOUT / "docs/tls.md").read_text(encoding="utf-8"))}


def _run(name, folder, **replaced):
    """Run a block; what it prints must be what the page says."""
    lines = BLOCKS[name].splitlines()
    script = "set -e\n" + "\n".join(line[2:] for line in lines if line.startswith("$ "))
    for old, new in replaced.items():
        script = script.replace(old.removeprefix("_"), new)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = [line for line in lines if not line.startswith("$ ")]
    if expected:
        assert done.stdout.splitlines() == expected


def test_the_page_from_its_first_to_its_last_command(tmp_path):
    """Certificates, an instance with them, a call with a token, one with a client certificate."""
    need_command("openssl", "openssl")
    need_command("curl", "curl")
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps/orders.yaml").write_text(BLOCKS["apps/orders.yaml"])
    for made, server, called in (("certificates", "server", "token"), ("client", "client server", "client call")):
        _run(made, tmp_path)
        words = shlex.split(BLOCKS[server].removeprefix("$ "))
        assert words[:2] == ["dapr-shared", "run"]
        with running(tmp_path, *words[2:]) as instance:
            _run(called, tmp_path, _3500=str(instance.http_port))
