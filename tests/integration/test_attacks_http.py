"""Attempts of app `orders` to reach what belongs to app `stock`, over HTTP: each is refused, and could be done."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.attacked import ENV_TOKEN, FILE_TOKEN, KEY, PRIVATE, attacked, secrets_in
from tests.support.calls import ask, connect, request_bytes
from tests.support.http_attempts import AS_A, COUNT, INVOKE, POLICY, STATE, TABLE, A, B


def _token(value: str | bytes) -> list[tuple[str, str | bytes]]:
    return [("dapr-api-token", value)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with attacked(tmp_path_factory.mktemp("attacked")) as made:
        yield made


def test_the_table_is_long_enough():
    """There are at least sixty attempts over HTTP, each with a name of its own and a sentence."""
    assert len(TABLE) >= 60
    assert len(TABLE) == COUNT
    assert all(attempt.sentence.endswith(".") for attempt in TABLE.values())


@pytest.mark.parametrize("name", TABLE)
def test_attempt(world, name):
    """No attempt reaches what belongs to another app; each is answered and counted as documented."""
    attempt = TABLE[name]
    before = world.instance.refused(attempt.reason) if attempt.reason else 0
    seen = len(world.stock.seen)

    answer = attempt.send(world)

    expected = attempt.status if isinstance(attempt.status, tuple) else (attempt.status,)
    assert answer.status in expected, (answer, attempt.sentence)
    assert not secrets_in(answer.body), attempt.sentence
    assert not secrets_in(str(answer.headers)), attempt.sentence
    if attempt.code:
        assert answer.code == attempt.code, answer
    if attempt.reason:
        assert world.instance.refused(attempt.reason) == before + 1
    if attempt in POLICY:
        assert len(world.stock.seen) == seen, "the callee was reached"
    world.stock_is_untouched()


# What makes refusals meaningful -----------------------------------------------------------------------------------
@pytest.mark.parametrize("token", [B, ENV_TOKEN, FILE_TOKEN])
def test_the_value_is_there_for_its_app(world, token):
    """Each token of `stock` reads the value that every attempt was after."""
    answer = ask(world.instance.http, "GET", STATE, headers=_token(token))
    assert (answer.status, answer.json()) == (200, PRIVATE)


@pytest.mark.parametrize("where", ["stock_http", "stock_socket"])
@pytest.mark.parametrize("headers", [[], _token(B)], ids=["alone", "with-token"])
def test_a_listener_proves_its_app(world, where, headers):
    """The listeners of `stock` prove it, alone and with its token."""
    answer = ask(getattr(world, where), "GET", STATE, headers=headers)
    assert (answer.status, answer.json()) == (200, PRIVATE)


def test_space_around_a_token_is_no_part_of_it(world):
    """HTTP's optional white space around a header's value is taken off."""
    answer = ask(world.instance.http, "GET", STATE, headers=[("dapr-api-token", f" \t{B}\t ")])
    assert answer.json() == PRIVATE


def test_the_scoped_store_is_there_for_its_app(world):
    """`stock` reads from the store that is scoped to it, and from its secret store."""
    assert world.instance.ask("GET", f"/v1.0/state/stockonly/{KEY}", app="stock").json() == PRIVATE
    assert world.instance.ask("GET", "/v1.0/secrets/private/private", app="stock").json() == {"private": PRIVATE}


@pytest.mark.parametrize(
    ("store", "key", "value"),
    [
        ("vault", "open", {"open": "everybody"}),
        ("dotted", "open", {"open": "everybody"}),
        ("several", "open", {"open": "everybody"}),
        ("env", "OPEN", {"OPEN": "everybody"}),
    ],
)
def test_open_secrets_are_open(world, store, key, value):
    """`orders` reads what is open to it from the same stores, alone and in bulk."""
    answer = world.instance.ask("GET", f"/v1.0/secrets/{store}/{key}", app="orders")
    assert (answer.status, answer.json()) == (200, value)
    assert world.instance.ask("GET", f"/v1.0/secrets/{store}/bulk", app="orders").json()[key] == value


def test_a_store_of_another_app_answers_as_one_that_does_not_exist(world):
    """Nothing but its name distinguishes the answer for another app's store from that for no store at all."""
    for kind, method, body in (("state", "POST", b"[]"), ("state", "GET", None), ("secrets", "GET", None)):
        theirs = "stockonly" if kind == "state" else "private"
        end = "" if method == "POST" else "/k"
        answers = [
            world.instance.ask(method, f"/v1.0/{kind}/{store}{end}", body, app="orders")
            for store in (theirs, "nowhere")
        ]
        assert answers[0].status == answers[1].status
        assert answers[0].body.replace(theirs.encode(), b"nowhere") == answers[1].body


def test_nothing_of_a_refused_batch_is_written(world):
    """An illegal key refuses the whole save and the whole transaction."""
    for key in ("x1", "x2"):
        assert world.instance.ask("GET", f"/v1.0/state/statestore/{key}", app="orders").status == 204


def test_the_policy_opens_what_it_says(world):
    """The access policy lets `orders` to /open and `audit` everywhere, each under its proved name."""
    assert world.instance.ask("GET", INVOKE + "open", app="orders").status == 200
    assert world.instance.ask("POST", INVOKE + "OPEN", b"", app="orders").status == 200
    assert world.instance.ask("GET", INVOKE + "secret", app="audit").status == 200
    assert world.stock.seen[-1].header("dapr-caller-app-id") == ["audit"]


@pytest.mark.parametrize(
    "extra",
    [
        [("dapr-caller-app-id", "audit")],
        [("Dapr-Caller-App-Id", "audit"), ("DAPR-CALLER-APP-ID", "stock")],
        [("connection", "dapr-caller-app-id, dapr-callee-app-id, dapr-caller-namespace")],
        [("dapr-caller-namespace", "kube-system"), ("dapr-callee-app-id", "audit")],
        [("dapr-app-id", "")],
    ],
    ids=["claim", "claim-twice", "hop-by-hop", "namespace", "empty-target"],
)
def test_the_callee_sees_the_proved_caller(world, extra):
    """Whatever the caller claims, the callee gets its proved app id, namespace and own id, each once."""
    answer = world.instance.ask("GET", "/v1.0/invoke/stock/method/hello", headers=extra, app="orders")
    assert answer.status == 200
    seen = world.stock.seen[-1]
    assert seen.header("dapr-caller-app-id") == ["orders"]
    assert seen.header("dapr-caller-namespace") == ["default"]
    assert seen.header("dapr-callee-app-id") == ["stock"]


def test_the_callers_token_ends_at_the_instance(world):
    """The callee gets the token of its own channel, never the caller's."""
    assert world.instance.ask("GET", "/v1.0/invoke/stock/method/hello", app="orders").status == 200
    assert world.stock.seen[-1].header("dapr-api-token") == ["stock-channel-token-79"]
    assert world.instance.ask("GET", "/v1.0/invoke/audit/method/hello", app="stock").status == 200
    assert world.orders.seen[-1].header("dapr-api-token") == []


def test_etags_of_another_app_open_nothing(world):
    """With the etag of `stock`'s value, `orders` neither saves nor deletes under the same key name."""
    etag = world.etag_of_stock()
    body = json.dumps([{"key": KEY, "value": "taken", "etag": etag}]).encode()
    assert world.instance.ask("POST", "/v1.0/state/statestore", body, app="orders").status == 409
    deleted = world.instance.ask("DELETE", STATE, headers=[("if-match", etag)], app="orders")
    assert deleted.status == 409
    world.stock_is_untouched()


def test_metadata_is_of_the_own_app(world):
    """Each app sees its own id, notes, components and port in the metadata, and nothing of another."""
    mine = world.instance.ask("GET", "/v1.0/metadata", app="orders").json()
    assert mine["id"] == "orders"
    assert mine["appConnectionProperties"]["port"] == world.orders.port
    names = {found["name"] for found in mine["components"]}
    assert "statestore" in names
    assert not names & {"stockonly", "private"}
    theirs = world.instance.ask("GET", "/v1.0/metadata", app="stock").json()
    assert theirs["id"] == "stock"
    assert theirs["extended"]["note"] == PRIVATE
    assert {"stockonly", "private"} <= {found["name"] for found in theirs["components"]}


def test_sockets_are_for_their_owner(world):
    """An app's Unix socket has the mode 0600."""
    for where in (world.orders_socket, world.stock_socket):
        assert Path(where.removeprefix("unix:")).stat().st_mode & 0o777 == 0o600


def test_listeners_of_apps_are_on_loopback(world):
    """An app's port is bound to 127.0.0.1 and to no other address."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    listening = [line.split()[1] for table in tables for line in table if line.split()[3] == "0A"]
    for where in (world.orders_http, world.orders_grpc, world.stock_http, world.stock_grpc):
        port = f"{int(where.rpartition(':')[2]):04X}"
        found = [address.rpartition(":")[0] for address in listening if address.endswith(f":{port}")]
        assert len(found) == 1
        assert found[0] in ("0100007F", "0000000000000000FFFF00000100007F")


def test_open_ports_stay_open(world):
    """Health needs no identity, on the API's port and on the public one, and tells nothing of apps."""
    for address in (world.instance.http, world.instance.public):
        for target in ("/v1.0/healthz", "/v1.0/healthz/outbound"):
            answer = ask(address, "GET", target)
            assert (answer.status, answer.body) == (204, b"")


def test_metrics_and_log_hold_no_secret(world):
    """Tokens, values and secrets are neither in the metrics nor in the log, also after every attempt."""
    metrics = ask(world.instance.metrics_address, "GET", "/").body
    assert not secrets_in(metrics)
    log = world.instance.output()
    assert not secrets_in(log)
    assert A not in log


def test_one_answer_for_a_pipelined_refusal(world):
    """A refused request does not lend its connection's identity to the next one."""
    with connect(world.instance.http) as made:
        made.sendall(
            request_bytes("GET", STATE, headers=_token(B), close=False)
            + request_bytes("GET", STATE, headers=AS_A, close=False)
            + request_bytes("GET", STATE)
        )
        data = b""
        while piece := made.recv(65536):
            data += piece
    assert re.findall(rb"HTTP/1\.1 (\d+)", data) == [b"200", b"204", b"401"]
