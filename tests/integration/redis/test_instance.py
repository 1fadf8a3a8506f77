"""Redis components of a whole instance: wrong settings are named before the start, and no password is shown."""

from __future__ import annotations

import json

from tests.support.instance import app, component, run_to_end, running

PASSWORD = "right-one-of-redis"


def test_validate(tmp_path):
    """`dapr-shared validate` names component, field and what was expected, without a server, and shows no password."""
    wrong = component("store", "state.redis", redisHost="127.0.0.1:1", redisPassword=PASSWORD, redisDB="many")
    (tmp_path / "store.yaml").write_text(json.dumps(wrong))
    code, output = run_to_end(tmp_path, "validate", str(tmp_path / "store.yaml"))
    assert code == 1
    assert all(word in output for word in ("store", "redisDB", "number"))
    assert PASSWORD not in output


def test_no_secret_is_shown(tmp_path, own_server):
    """Neither log nor metadata nor an error shows the password, also when the server is lost."""
    server = own_server(password=PASSWORD)
    store = component("store", "state.redis", redisHost=server.address, redisPassword=PASSWORD, redisMaxRetries="0")
    with running(tmp_path, resources=[app("orders"), store]) as instance:
        assert instance.ask("POST", "/v1.0/state/store", b'[{"key":"k","value":1}]', app="orders").status == 204
        shown = instance.ask("GET", "/v1.0/metadata", app="orders").body.decode()
        server.kill()
        lost = instance.ask("GET", "/v1.0/state/store/k", app="orders")
        assert lost.status == 500
        assert PASSWORD not in shown + lost.body.decode() + instance.output()
