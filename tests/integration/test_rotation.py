"""Rotated secrets: what SIGHUP takes over."""

from __future__ import annotations

import json
from signal import SIGHUP

from tests.support.instance import app, component, running


def test_a_rotated_token_takes_effect_on_sighup(tmp_path):
    """After the secrets file has another token and a SIGHUP, the new one proves the app and the old one nothing."""
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({"shop": "old-token"}))
    shop = app("shop")
    shop["spec"]["tokens"] = [{"secretKeyRef": {"name": "shop", "key": "shop"}}]
    shop["auth"] = {"secretStore": "vault"}
    vault = component("vault", "secretstores.local.file", secretsFile=str(secrets))
    with running(tmp_path, resources=[shop, vault]) as instance:

        def status(token: str) -> int:
            return instance.ask("GET", "/v1.0/metadata", headers=[("dapr-api-token", token)]).status

        assert (status("old-token"), status("new-token")) == (200, 401)
        secrets.write_text(json.dumps({"shop": "new-token"}))
        instance.signal(SIGHUP)
        instance.wait_for_line("resources reloaded")
        assert (status("old-token"), status("new-token")) == (401, 200)
        secrets.write_text("{")
        instance.signal(SIGHUP)
        instance.wait_for_line("component warning")
        assert status("new-token") == 200
