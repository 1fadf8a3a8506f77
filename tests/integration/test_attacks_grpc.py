"""Attempts of app `orders` to reach what belongs to app `stock`, over gRPC, with both engines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import pytest

from dapr_shared._proto import common_pb, runtime_pb
from tests.support.apps import SERVICE
from tests.support.attacked import (
    ENV_TOKEN,
    FILE_TOKEN,
    KEY,
    OWN,
    PRIVATE,
    STORES,
    Attacked,
    attacked,
    item,
    read_as,
    secrets_in,
    state_request,
)
from tests.support.calls import DAPR, GrpcAnswer, call, grpc_channel
from tests.support.http2 import grpc_status_of
from tests.support.instance import digest_of, token_of

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = token_of("orders"), token_of("stock")
AS_A = [("dapr-api-token", A)]
Code = grpc.StatusCode


@pytest.fixture(scope="module", params=["http2", "aio"])
def world(request, tmp_path_factory):
    with attacked(tmp_path_factory.mktemp(f"attacked-{request.param}"), request.param) as made:
        yield made


@pytest.fixture(scope="module")
def channel(world):
    with grpc_channel(world.instance.grpc) as made:
        yield made


@dataclass
class Attempt:
    """One attempt: method, message and metadata; what must come back, and the reason under which it is counted."""

    name: str
    sentence: str
    code: grpc.StatusCode
    metadata: list[tuple[str, str | bytes]]
    method: str = "GetState"
    request: Callable[[], object] = state_request
    reason: str = ""
    listener: str = ""


def _token(value: str) -> list[tuple[str, str | bytes]]:
    return [("dapr-api-token", value)]


def _invoke(target: str, method: str) -> Callable[[], runtime_pb.InvokeServiceRequest]:
    def made() -> runtime_pb.InvokeServiceRequest:
        message = common_pb.InvokeRequest(method=method)
        message.http_extension.verb = common_pb.HTTPExtension.GET
        return runtime_pb.InvokeServiceRequest(id=target, message=message)

    return made


def _secret(store: str, key: str) -> Callable[[], runtime_pb.GetSecretRequest]:
    return lambda: runtime_pb.GetSecretRequest(store_name=store, key=key)


def _bulk_secret(store: str) -> Callable[[], runtime_pb.GetBulkSecretRequest]:
    return lambda: runtime_pb.GetBulkSecretRequest(store_name=store)


def _transaction(key: str) -> runtime_pb.ExecuteStateTransactionRequest:
    made = runtime_pb.ExecuteStateTransactionRequest(storeName="statestore")
    for name in ("x3", key):
        operation = made.operations.add(operationType="upsert")
        operation.request.CopyFrom(item(name))
    return made


THEIRS = f"stock||{KEY}"
WHO = Code.UNAUTHENTICATED
NO_EVIDENCE, UNKNOWN, SEVERAL = "no_evidence", "unknown_token", "several_tokens"

TABLE = [
    # Evidence
    Attempt("no-token", "No token proves nobody.", WHO, [], reason=NO_EVIDENCE),
    Attempt("wrong-token", "A token of nobody is refused.", WHO, _token("guess"), reason=UNKNOWN),
    Attempt("empty-token", "An empty token is none.", WHO, _token(""), reason=NO_EVIDENCE),
    Attempt("hash", "The hash in the resource is no token.", WHO, _token(digest_of("stock")), reason=UNKNOWN),
    Attempt("upper", "Tokens are compared exactly.", WHO, _token(B.upper()), reason=UNKNOWN),
    Attempt("comma-list", "A list of tokens is one token.", WHO, _token(f"{A},{B}"), reason=UNKNOWN),
    Attempt("bearer-inside", "No scheme is taken off.", WHO, _token(f"Bearer {B}"), reason=UNKNOWN),
    Attempt("twice", "Two tokens are refused.", WHO, [*AS_A, *_token(B)], reason=SEVERAL),
    Attempt("twice-same", "Also the same token twice.", WHO, [*AS_A, *AS_A], reason=SEVERAL),
    Attempt("long", "A long token is compared, too.", WHO, _token("x" * 4000), reason=UNKNOWN),
    Attempt(
        "binary", "Binary metadata is no token.", WHO, [("dapr-api-token-bin", B.encode())], reason=NO_EVIDENCE
    ),
    Attempt(
        "binary-beside", "Nor does it count beside one.", Code.OK, [*AS_A, ("dapr-api-token-bin", B.encode())]
    ),
    Attempt("authorization", "Authorization proves nothing.", WHO, [("authorization", f"Bearer {B}")], reason=NO_EVIDENCE),
    Attempt("x-prefixed", "x-dapr-api-token is another key.", WHO, [("x-dapr-api-token", B)], reason=NO_EVIDENCE),
    Attempt("underscores", "So is dapr_api_token.", WHO, [("dapr_api_token", B)], reason=NO_EVIDENCE),
    Attempt(
        "in-message", "Metadata inside a message proves nothing.", WHO, [],
        request=lambda: runtime_pb.GetStateRequest(store_name="statestore", key=KEY, metadata={"dapr-api-token": B}),
        reason=NO_EVIDENCE,
    ),
    Attempt("garbage-first", "Who calls is asked before the message is read.", WHO, [], request=lambda: b"\xff\xff",
            reason=NO_EVIDENCE),
    # Claims
    Attempt("caller", "A claimed caller is nobody.", Code.OK, [*AS_A, ("dapr-caller-app-id", "stock")]),
    Attempt("callee", "Nor is a claimed callee.", Code.OK, [*AS_A, ("dapr-callee-app-id", "stock")]),
    Attempt("app-id", "On Dapr's methods dapr-app-id chooses nothing.", Code.OK, [*AS_A, ("dapr-app-id", "stock")]),
    Attempt("caller-alone", "Nor is a claim evidence.", WHO, [("dapr-caller-app-id", "stock")], reason=NO_EVIDENCE),
    Attempt("forwarded", "Forwarded metadata changes nobody.", Code.OK,
            [*AS_A, ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-client-cert", "URI=spiffe://public/ns/x/stock")]),
    # Listeners
    Attempt("own-listener", "The own listener does not take another's token.", WHO, _token(B),
            reason="evidence_disagrees", listener="orders_grpc"),
    Attempt("their-listener", "Another's listener does not take the own token.", WHO, AS_A,
            reason="evidence_disagrees", listener="stock_grpc"),
    Attempt("own-listener-claim", "A claim changes nothing at the own listener.", Code.OK,
            [("dapr-caller-app-id", "stock")], listener="orders_grpc"),
    # State
    Attempt("get", "Another app's prefix is an illegal key.", Code.INVALID_ARGUMENT, AS_A,
            request=lambda: state_request(THEIRS)),
    Attempt("get-nul", "NUL separates nothing.", Code.OK, AS_A, request=lambda: state_request(f"stock\0\0{KEY}")),
    Attempt("get-lookalike", "Lookalikes of the separator are other keys.", Code.OK, AS_A,
            request=lambda: state_request(f"stock\uff5c\uff5c{KEY}")),
    Attempt("get-metadata", "The prefix is the component's to say.", Code.OK, AS_A,
            request=lambda: runtime_pb.GetStateRequest(
                store_name="statestore", key=KEY, metadata={"keyPrefix": "none", "partitionKey": THEIRS})),
    Attempt("scoped-store", "A store of another app is not there.", Code.INVALID_ARGUMENT, AS_A,
            request=lambda: state_request(store="stockonly")),
    Attempt("store-case", "Stores are found exactly.", Code.INVALID_ARGUMENT, AS_A,
            request=lambda: state_request(store="STATESTORE")),
    Attempt("bulk-get", "A bulk get of another's prefix is illegal.", Code.INVALID_ARGUMENT, AS_A, "GetBulkState",
            lambda: runtime_pb.GetBulkStateRequest(store_name="statestore", keys=[OWN, THEIRS])),
    Attempt("bulk-get-plain", "A bulk get finds the own keys only.", Code.OK, AS_A, "GetBulkState",
            lambda: runtime_pb.GetBulkStateRequest(store_name="statestore", keys=[KEY])),
    Attempt("save", "A save under another's prefix is illegal.", Code.INVALID_ARGUMENT, AS_A, "SaveState",
            lambda: runtime_pb.SaveStateRequest(store_name="statestore", states=[item("x4"), item(THEIRS)])),
    Attempt("delete", "So is a delete.", Code.INVALID_ARGUMENT, AS_A, "DeleteState",
            lambda: runtime_pb.DeleteStateRequest(store_name="statestore", key=THEIRS)),
    Attempt("delete-plain", "A delete of the same key name deletes the own.", Code.OK, AS_A, "DeleteState",
            lambda: runtime_pb.DeleteStateRequest(store_name="statestore", key=KEY)),
    Attempt("bulk-delete", "So is a bulk delete.", Code.INVALID_ARGUMENT, AS_A, "DeleteBulkState",
            lambda: runtime_pb.DeleteBulkStateRequest(store_name="statestore", states=[item(KEY), item(THEIRS)])),
    Attempt("transaction", "So is a transaction.", Code.INVALID_ARGUMENT, AS_A, "ExecuteStateTransaction",
            lambda: _transaction(THEIRS)),
    Attempt("query", "A query is not answered with another's values.", Code.INTERNAL, AS_A, "QueryStateAlpha1",
            lambda: runtime_pb.QueryStateRequest(store_name="statestore", query="{}")),
    # Secrets
    Attempt("env", "The variable of a token is closed.", Code.PERMISSION_DENIED, AS_A, "GetSecret",
            _secret("env", "STOCK_ENV_TOKEN")),
    Attempt("env-case", "In any case.", Code.PERMISSION_DENIED, AS_A, "GetSecret", _secret("env", "Stock_Env_Token")),
    Attempt("env-copy", "A copy is known by its value.", Code.PERMISSION_DENIED, AS_A, "GetSecret",
            _secret("env", "STOCK_TOKEN_COPY")),
    Attempt("prefixed", "A prefix does not hide the variable.", Code.PERMISSION_DENIED, AS_A, "GetSecret",
            _secret("prefixed", "ENV_TOKEN")),
    Attempt("file", "The secret of a token is closed.", Code.PERMISSION_DENIED, AS_A, "GetSecret",
            _secret("vault", "stock:token")),
    Attempt("dotted", "Another separator does not hide it.", Code.PERMISSION_DENIED, AS_A, "GetSecret",
            _secret("dotted", "stock.token")),
    Attempt("several", "Nor the secret that holds it among others.", Code.PERMISSION_DENIED, AS_A, "GetSecret",
            _secret("several", "stock")),
    Attempt("hashed", "Also a token that the App names by its hash.", Code.PERMISSION_DENIED, AS_A, "GetSecret",
            _secret("vault", "hashed-token")),
    Attempt("closed", "A store that the App does not open is closed.", Code.PERMISSION_DENIED, AS_A, "GetSecret",
            _secret("closed", "open")),
    Attempt("private", "A store of another app is not there.", Code.INVALID_ARGUMENT, AS_A, "GetSecret",
            _secret("private", "private")),
    *(Attempt(f"bulk-{store}", "A bulk get leaves tokens out.", Code.OK, AS_A, "GetBulkSecret", _bulk_secret(store))
      for store in (*STORES, "closed")),
    Attempt("bulk-private", "Another's store is not there.", Code.INVALID_ARGUMENT, AS_A, "GetBulkSecret",
            _bulk_secret("private")),
    # Invocation
    Attempt("denied", "An access policy of the callee holds.", Code.PERMISSION_DENIED, AS_A, "InvokeService",
            _invoke("guarded", "secret")),
    Attempt("denied-spoofed", "A claimed caller does not pass it.", Code.PERMISSION_DENIED,
            [*AS_A, ("dapr-caller-app-id", "audit")], "InvokeService", _invoke("guarded", "secret")),
    Attempt("denied-dots", "Dots are resolved before the policy.", Code.PERMISSION_DENIED, AS_A, "InvokeService",
            _invoke("guarded", "open/../secret")),
    Attempt("denied-slash", "A slash before it changes nothing.", Code.PERMISSION_DENIED, AS_A, "InvokeService",
            _invoke("guarded", "//secret")),
    Attempt("denied-namespace", "Nor does the namespace.", Code.PERMISSION_DENIED, AS_A, "InvokeService",
            _invoke("guarded.default", "secret")),
    Attempt("method-query", "A method has no query.", Code.INTERNAL, AS_A, "InvokeService",
            _invoke("guarded", "open?x=/secret")),
    Attempt("method-line-end", "Nor has it line ends.", Code.INTERNAL, AS_A, "InvokeService",
            _invoke("guarded", "open\r\nx: y")),
    Attempt("url", "An absolute URL is no way to the app.", Code.PERMISSION_DENIED, AS_A, "InvokeService",
            _invoke("http://127.0.0.1:1", "secret")),
    Attempt("invoke-no-token", "Nobody invokes without a token.", WHO, [], "InvokeService", _invoke("stock", "x"),
            reason=NO_EVIDENCE),
    # Proxying
    Attempt("proxy-no-token", "Nobody is relayed without a token.", WHO, [("dapr-app-id", "remote")],
            f"/{SERVICE}/Say", lambda: b"x", reason=NO_EVIDENCE),
    Attempt("proxy-http-app", "An HTTP app takes no relayed call.", Code.INTERNAL, [*AS_A, ("dapr-app-id", "stock")],
            f"/{SERVICE}/Say", lambda: b"x"),
    Attempt("proxy-callback", "Nobody plays the instance to an app.", Code.PERMISSION_DENIED,
            [*AS_A, ("dapr-app-id", "guarded")], "/dapr.proto.runtime.v1.AppCallback/OnInvoke", lambda: b""),
    Attempt("unknown-no-token", "Nobody finds out what methods there are.", WHO, [], "/no.such.Service/Method",
            lambda: b"", reason=NO_EVIDENCE),
    Attempt("reflection-no-token", "Nor by reflection.", WHO, [],
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", lambda: b"", reason=NO_EVIDENCE),
    Attempt("later-api-no-token", "Nor by an API that is not there yet.", WHO, [], "PublishEvent",
            lambda: b"", reason=NO_EVIDENCE),
    # System
    Attempt("metadata", "Metadata tells of the own app only.", Code.OK, AS_A, "GetMetadata", lambda: b""),
    Attempt("metadata-no-token", "Nobody reads it without a token.", WHO, [], "GetMetadata", lambda: b"",
            reason=NO_EVIDENCE),
    Attempt("metadata-set", "What is set belongs to the own app.", Code.OK, AS_A, "SetMetadata",
            lambda: runtime_pb.SetMetadataRequest(key="note", value="mine")),
    Attempt("shutdown", "Shutdown stops neither the instance nor another app.", Code.OK,
            [*AS_A, ("dapr-force-shutdown", "true")], "Shutdown", lambda: b""),
    Attempt("shutdown-no-token", "Nobody shuts down without a token.", WHO, [], "Shutdown", lambda: b"",
            reason=NO_EVIDENCE),
]  # fmt: skip
NAMED = {attempt.name: attempt for attempt in TABLE}


def test_the_table_is_long_enough():
    """There are at least sixty attempts over gRPC, each with a name of its own."""
    assert len(TABLE) >= 60
    assert len(NAMED) == len(TABLE)


@pytest.mark.parametrize("name", NAMED)
def test_attempt(world: Attacked, channel, name):
    """No attempt reaches what belongs to another app; each is answered and counted as documented."""
    attempt = NAMED[name]
    before = world.instance.refused(attempt.reason) if attempt.reason else 0

    answer = _send(world, channel, attempt)

    assert answer.code is attempt.code, (answer, attempt.sentence)
    assert not secrets_in(answer.data), attempt.sentence
    assert not secrets_in(str((answer.details, answer.initial, answer.trailers))), attempt.sentence
    if attempt.reason:
        assert world.instance.refused(attempt.reason) == before + 1
    world.stock_is_untouched()


def _send(world: Attacked, channel: grpc.Channel, attempt: Attempt) -> GrpcAnswer:
    if not attempt.listener:
        return call(channel, attempt.method, attempt.request(), attempt.metadata)
    with grpc_channel(getattr(world, attempt.listener)) as made:
        return call(made, attempt.method, attempt.request(), attempt.metadata)


# What no gRPC client sends ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "headers",
    [
        [(b"Dapr-Api-Token", B.encode())],
        [(b"dapr-api-token", b"\xff\xfe" + B.encode())],
        [(b"dapr-api-token", B.encode() + b"\0")],
        [(b"dapr-api-token", b" " + B.encode()), (b"dapr-api-token", A.encode())],
        [(b"te", b"trailers"), (b":dapr-api-token", B.encode())],
    ],
    ids=["upper-case-key", "bytes-above-ascii", "nul", "twice-with-space", "pseudo-header"],
)
def test_malformed_metadata_proves_nobody(world, headers):
    """Metadata that HTTP/2 or gRPC forbids is refused, on the stream or with the connection, and never taken."""
    status, data = grpc_status_of(world.instance.grpc, DAPR + "GetState", state_request().SerializeToString(), headers)
    assert status != 0
    assert not secrets_in(data)
    assert read_as(world.instance.grpc, "stock") == json.dumps(PRIVATE).encode()


# What makes refusals meaningful -----------------------------------------------------------------------------------
@pytest.mark.parametrize("token", [B, ENV_TOKEN, FILE_TOKEN])
def test_the_value_is_there_for_its_app(world, channel, token):
    """Each token of `stock` reads the value that every attempt was after."""
    answer = call(channel, "GetState", state_request(), _token(token))
    assert runtime_pb.GetStateResponse.FromString(answer.data).data == json.dumps(PRIVATE).encode()


def test_the_raw_client_can_read_what_is_its_own(world):
    """The client that sends malformed metadata gets an answer with well-formed ones."""
    headers = [(b"dapr-api-token", B.encode())]
    status, data = grpc_status_of(world.instance.grpc, DAPR + "GetState", state_request().SerializeToString(), headers)
    assert status == 0
    assert secrets_in(data) == [PRIVATE]


@pytest.mark.parametrize("metadata", [[], _token(B)], ids=["alone", "with-token"])
def test_a_listener_proves_its_app(world, metadata):
    """The gRPC listener of `stock` proves it, alone and with its token."""
    with grpc_channel(world.stock_grpc) as made:
        answer = call(made, "GetState", state_request(), metadata)
    assert secrets_in(answer.data) == [PRIVATE]


def test_the_policy_opens_what_it_says(world, channel):
    """The access policy lets `orders` to /open and `audit` to everything, each under its proved name."""
    assert call(channel, "InvokeService", _invoke("guarded", "open")(), AS_A).code is Code.OK
    metadata = [("dapr-api-token", token_of("audit")), ("dapr-caller-app-id", "stock")]
    assert call(channel, "InvokeService", _invoke("guarded", "secret")(), metadata).code is Code.OK
    assert world.stock.seen[-1].header("dapr-caller-app-id") == ["audit"]


def test_a_relayed_call_carries_the_proved_caller(world, channel):
    """A relayed call shows its app the proved caller and no token, whatever the caller claims."""
    metadata = [
        *AS_A,
        ("dapr-app-id", "remote"),
        ("dapr-caller-app-id", "stock"),
        ("dapr-caller-namespace", "other"),
    ]
    answer = call(channel, f"/{SERVICE}/Who", b"", metadata)
    assert answer.code is Code.OK
    seen = json.loads(answer.data)
    assert (seen["dapr-caller-app-id"], seen["dapr-caller-namespace"]) == ("orders", "default")
    assert seen["dapr-callee-app-id"] == "remote"
    assert "dapr-api-token" not in seen
    assert "dapr-app-id" not in seen


def test_etags_of_another_app_open_nothing(world, channel):
    """With the etag of `stock`'s value, `orders` neither saves nor deletes under the same key name."""
    etag = world.etag_of_stock()
    save = runtime_pb.SaveStateRequest(store_name="statestore", states=[item(KEY, etag=etag)])
    assert call(channel, "SaveState", save, AS_A).code is Code.ABORTED
    delete = runtime_pb.DeleteStateRequest(store_name="statestore", key=KEY)
    delete.etag.value = etag
    assert call(channel, "DeleteState", delete, AS_A).code is Code.ABORTED
    world.stock_is_untouched()


def test_open_secrets_are_open(world, channel):
    """`orders` reads what is open to it, alone and in bulk."""
    answer = call(channel, "GetSecret", _secret("vault", "open")(), AS_A)
    assert dict(runtime_pb.GetSecretResponse.FromString(answer.data).data) == {"open": "everybody"}
    answer = call(channel, "GetBulkSecret", _bulk_secret("vault")(), AS_A)
    assert set(runtime_pb.GetBulkSecretResponse.FromString(answer.data).data) == {"open"}


def test_metadata_is_of_the_own_app(world, channel):
    """Each app sees its own id and components in the metadata, and nothing of another."""
    answer = call(channel, "GetMetadata", b"", AS_A)
    mine = runtime_pb.GetMetadataResponse.FromString(answer.data)
    assert mine.id == "orders"
    assert mine.app_connection_properties.port == world.orders.port
    names = {found.name for found in mine.registered_components}
    assert "statestore" in names
    assert not names & {"stockonly", "private"}


def test_nothing_of_a_refused_batch_is_written(world, channel):
    """An illegal key refuses the whole save and the whole transaction."""
    for key in ("x3", "x4"):
        answer = call(channel, "GetState", state_request(key), AS_A)
        assert runtime_pb.GetStateResponse.FromString(answer.data).data == b""


def test_log_holds_no_secret(world):
    """Tokens, values and secrets are not in the log, also after every attempt."""
    assert not secrets_in(world.instance.output())
    assert A not in world.instance.output()
