"""The table of attempts over HTTP: what app `orders` tries, to reach what belongs to app `stock`."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

from tests.support.attacked import KEY, OWN, STORES, Attacked
from tests.support.calls import Answer, Header, ask, exchange
from tests.support.instance import digest_of, token_of

A, B = token_of("orders"), token_of("stock")
AS_A: list[Header] = [("dapr-api-token", A)]
STATE = f"/v1.0/state/statestore/{KEY}"
INVOKE = "/v1.0/invoke/guarded/method/"


@dataclass
class Attempt:
    """One attempt: what is sent, what must come back, and the reason under which it is counted."""

    name: str
    sentence: str
    status: int | tuple[int, ...]
    headers: list[Header] = field(default_factory=lambda: list(AS_A))
    method: str = "GET"
    target: str | bytes = STATE
    body: bytes | None = None
    code: str = ""
    reason: str = ""
    port: str = ""
    """`public`, `metrics`, or the name of a listener of `Attacked`; empty: the shared HTTP API."""
    raw: bytes = b""
    """The whole request, where no client would send it."""

    def send(self, world: Attacked) -> Answer:
        address = world.instance.http
        if self.port in ("public", "metrics_address"):
            address = getattr(world.instance, self.port)
        elif self.port:
            address = getattr(world, self.port)
        if self.raw:
            return exchange(address, self.raw, self.method)
        return ask(address, self.method, self.target, self.body, headers=self.headers)


def _token(value: str | bytes) -> list[Header]:
    return [("dapr-api-token", value)]


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def _state(key: str, name: str, sentence: str, status: int, code: str = "") -> Attempt:
    return Attempt(name, sentence, status, target=f"/v1.0/state/statestore/{key}", code=code)


def _invoke(path: str | bytes, name: str, sentence: str, *extra: Header, status: int = 403) -> Attempt:
    target = INVOKE.encode() + path if isinstance(path, bytes) else INVOKE + path
    return Attempt(name, sentence, status, [*AS_A, *extra], target=target, code="ERR_DIRECT_INVOKE")


def _secret(store: str, key: str, name: str, sentence: str, status: int = 403, code: str = "ERR_PERMISSION_DENIED"):
    return Attempt(name, sentence, status, target=f"/v1.0/secrets/{store}/{key}", code=code)


def _write(name: str, sentence: str, target: str, body: object, status: int, code: str) -> Attempt:
    return Attempt(name, sentence, status, method="POST", target=target, body=json.dumps(body).encode(), code=code)


NO_EVIDENCE, UNKNOWN, SEVERAL = "no_evidence", "unknown_token", "several_tokens"
WHO = "ERR_UNAUTHENTICATED"

TOKENS = [
    Attempt("no-token", "No token proves nobody.", 401, [], code=WHO, reason=NO_EVIDENCE),
    Attempt("wrong-token", "A token of nobody is refused.", 401, _token("guess"), code=WHO, reason=UNKNOWN),
    Attempt("empty-token", "An empty token is none.", 401, _token(""), code=WHO, reason=NO_EVIDENCE),
    Attempt("blank-token", "A token of spaces is none.", 401, _token("  \t "), code=WHO, reason=NO_EVIDENCE),
    Attempt("prefix", "The beginning of a token is not it.", 401, _token(B[:-1]), code=WHO, reason=UNKNOWN),
    Attempt("longer", "A token with more behind it is not it.", 401, _token(B + "x"), code=WHO, reason=UNKNOWN),
    Attempt("upper", "Tokens are compared exactly.", 401, _token(B.upper()), code=WHO, reason=UNKNOWN),
    Attempt("quoted", "A quoted token is another.", 401, _token(f'"{B}"'), code=WHO, reason=UNKNOWN),
    Attempt("inner-space", "Space inside a token counts.", 401, _token(f"{B[:4]} {B[4:]}"), code=WHO, reason=UNKNOWN),
    Attempt("nbsp", "A no-break space is not trimmed.", 401, _token(b"\xa0" + B.encode()), code=WHO, reason=UNKNOWN),
    Attempt("bearer-inside", "No scheme is taken off.", 401, _token(f"Bearer {B}"), code=WHO, reason=UNKNOWN),
    Attempt("hash", "The hash in the resource is no token.", 401, _token(digest_of("stock")), code=WHO, reason=UNKNOWN),
    Attempt("hash-upper", "Nor is it in capitals.", 401, _token(digest_of("stock").upper()), code=WHO, reason=UNKNOWN),
    Attempt("app-id", "An app id is no token.", 401, _token("stock"), code=WHO, reason=UNKNOWN),
    Attempt("comma-list", "A list of tokens is one token.", 401, _token(f"{A}, {B}"), code=WHO, reason=UNKNOWN),
    Attempt("long", "A long token is compared, too.", 401, _token("x" * 3000), code=WHO, reason=UNKNOWN),
    Attempt("non-ascii", "Bytes above ASCII are compared.", 401, _token(b"\xff\xfe\xc3"), code=WHO, reason=UNKNOWN),
    Attempt("huge", "A head over the limit is refused.", 431, _token("x" * 9000)),
    Attempt(
        "twice", "Two tokens are refused, whichever comes first.", 401, [*AS_A, *_token(B)], code=WHO, reason=SEVERAL
    ),
    Attempt("twice-same", "Also the same token twice.", 401, [*AS_A, *AS_A], code=WHO, reason=SEVERAL),
    Attempt(
        "twice-by-case", "Header names ignore case.", 401, [("Dapr-Api-Token", A), ("DAPR-API-TOKEN", B)], code=WHO,
        reason=SEVERAL,
    ),
    Attempt(
        "twice-one-empty", "An empty one counts as one of two.", 401, [*AS_A, *_token("")], code=WHO, reason=SEVERAL
    ),
    Attempt(
        "in-query", "A query proves nothing.", 401, [], target=f"{STATE}?dapr-api-token={B}", code=WHO,
        reason=NO_EVIDENCE,
    ),
    Attempt(
        "as-metadata", "Request metadata proves nothing.", 401, [], target=f"{STATE}?metadata.dapr-api-token={B}",
        code=WHO, reason=NO_EVIDENCE,
    ),
    Attempt(
        "as-bearer", "Authorization proves nothing.", 401, [("authorization", f"Bearer {B}")], code=WHO,
        reason=NO_EVIDENCE,
    ),
    Attempt(
        "as-basic", "Basic authorization proves nothing.", 401, [("authorization", _basic(f"dapr-api-token:{B}"))],
        code=WHO, reason=NO_EVIDENCE,
    ),
    Attempt(
        "as-cookie", "A cookie proves nothing.", 401, [("cookie", f"dapr-api-token={B}")], code=WHO, reason=NO_EVIDENCE
    ),
    Attempt(
        "underscores", "dapr_api_token is another header.", 401, [("dapr_api_token", B)], code=WHO, reason=NO_EVIDENCE
    ),
    Attempt("x-prefixed", "So is x-dapr-api-token.", 401, [("x-dapr-api-token", B)], code=WHO, reason=NO_EVIDENCE),
    Attempt(
        "in-trailer", "A trailer comes too late.", 401, method="POST", target="/v1.0/state/statestore", code=WHO,
        reason=NO_EVIDENCE,
        raw=b"POST /v1.0/state/statestore HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntrailer: dapr-api-token\r\n"
        b"connection: close\r\n\r\n2\r\n[]\r\n0\r\ndapr-api-token: " + B.encode() + b"\r\n\r\n",
    ),
    Attempt(
        "space-before-colon", "A name with a space is malformed.", 400,
        raw=b"GET %b HTTP/1.1\r\nhost: x\r\ndapr-api-token : %b\r\n\r\n" % (STATE.encode(), B.encode()),
    ),
    Attempt(
        "folded", "A folded line is malformed.", 400,
        raw=b"GET %b HTTP/1.1\r\nhost: x\r\nx-a: b\r\n dapr-api-token: %b\r\n\r\n" % (STATE.encode(), B.encode()),
    ),
    Attempt(
        "nul-in-token", "A NUL is malformed.", 400,
        raw=b"GET %b HTTP/1.1\r\nhost: x\r\ndapr-api-token: %b\0\r\n\r\n" % (STATE.encode(), B.encode()),
    ),
    Attempt(
        "bare-cr", "A bare CR does not begin a header.", 400,
        raw=b"GET %b HTTP/1.1\r\nhost: x\r\nx-a: b\rdapr-api-token: %b\r\n\r\n" % (STATE.encode(), B.encode()),
    ),
]  # fmt: skip

CLAIMS = [
    Attempt("caller", "A claimed caller is nobody.", 204, [*AS_A, ("dapr-caller-app-id", "stock")]),
    Attempt("caller-alone", "Nor is it evidence.", 401, [("dapr-caller-app-id", "stock")], code=WHO, reason=NO_EVIDENCE),
    Attempt("callee", "Nor is a claimed callee.", 204, [*AS_A, ("dapr-callee-app-id", "stock")]),
    Attempt("app-id", "On an API route dapr-app-id chooses nothing.", 204, [*AS_A, ("dapr-app-id", "stock")]),
    Attempt(
        "app-id-alone", "dapr-app-id is a target and no evidence.", 401, [("dapr-app-id", "stock")], code=WHO,
        reason=NO_EVIDENCE,
    ),
    Attempt("namespace", "A claimed namespace is none.", 204, [*AS_A, ("dapr-caller-namespace", "other")]),
    Attempt(
        "forwarded", "Forwarded headers change nobody.", 204,
        [*AS_A, ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-host", "stock"), ("forwarded", "for=stock;host=stock"),
         ("x-forwarded-user", "stock"), ("x-forwarded-client-cert", "URI=spiffe://public/ns/default/stock")],
    ),
    Attempt("host", "Nor does Host.", 204, [*AS_A, ("host", "stock")]),
    Attempt(
        "overridden-method", "The verb is the one on the request line.", 204,
        [*AS_A, ("x-http-method-override", "DELETE"), ("x-original-url", f"/v1.0/state/stockonly/{KEY}")],
    ),
]  # fmt: skip

ILLEGAL = "ERR_MALFORMED_REQUEST"
KEYS = [
    _state(f"stock||{KEY}", "prefix", "Another app's prefix is an illegal key.", 400, ILLEGAL),
    _state(f"stock%7C%7C{KEY}", "prefix-encoded", "Also percent-encoded.", 400, ILLEGAL),
    _state(f"stock%7c|{KEY}", "prefix-half-encoded", "Also half encoded.", 400, ILLEGAL),
    _state(f"stock%257C%257C{KEY}", "prefix-encoded-twice", "Encoded twice it is another key.", 204),
    _state(f"stock%EF%BD%9C%EF%BD%9C{KEY}", "lookalike", "Lookalikes of the separator are other keys.", 204),
    _state(f"stock%C7%80%C7%80{KEY}", "lookalike-click", "Also the African click letter.", 204),
    _state(f"x%2F..%2F..%2Fstock||{KEY}", "climbing", "Keys are no paths to climb.", 400, ILLEGAL),
    _state(f"..%2Fstock%2F{KEY}", "climbing-encoded", "An encoded slash stays in the key.", 204),
    _state(f"stock%00%00{KEY}", "nul", "NUL separates nothing.", 204),
    _state(f"orders||..||stock||{KEY}", "own-prefix-first", "The own prefix opens no other.", 400, ILLEGAL),
    _state(f"{KEY}?metadata.keyPrefix=none", "prefix-by-metadata", "The prefix is the component's to say.", 204),
    _state(f"stock||{KEY}?metadata.keyPrefix=stock", "prefix-by-both", "Also with a prefix.", 400, ILLEGAL),
    _state(f"{KEY}?metadata.partitionKey=stock||{KEY}", "partition", "A partition key reaches nothing.", 204),
    Attempt("double-slash", "Doubled slashes are one.", 400, target=f"//v1.0//state//statestore//stock||{KEY}",
            code=ILLEGAL),
    Attempt("dot-segments", "Dots are resolved before routing.", 400,
            target=f"/v1.0/state/x/../statestore/./stock||{KEY}", code=ILLEGAL),
    Attempt("absolute-form", "The authority of a target in absolute form is nobody.", 204,
            target=f"http://stock{STATE}"),
    Attempt("path-parameters", "Parameters of a path are part of the key.", 204, target=f"{STATE};app=stock"),
    Attempt("trailing-dot", "A dot at the end is part of the key.", 204, target=f"{STATE}."),
    Attempt("mixed-case", "Stores are found exactly.", 400, target=f"/v1.0/state/StateStore/{KEY}",
            code="ERR_STATE_STORE_NOT_FOUND"),
    Attempt("scoped-store", "A store of another app is not there.", 400, target=f"/v1.0/state/stockonly/{KEY}",
            code="ERR_STATE_STORE_NOT_FOUND"),
    Attempt("scoped-store-encoded", "Nor by encoding it.", 400, target=f"/v1.0/state/%73tockonly/{KEY}",
            code="ERR_STATE_STORE_NOT_FOUND"),
    Attempt("store-by-slash", "Nor by a path in its name.", 400, target=f"/v1.0/state/statestore%2F..%2Fstockonly/{KEY}",
            code="ERR_STATE_STORE_NOT_FOUND"),
    Attempt("head", "A HEAD is no GetState and tells no etag.", 404, method="HEAD"),
    _write("save", "A save under another's prefix is illegal.", "/v1.0/state/statestore",
           [{"key": f"stock||{KEY}", "value": "taken"}], 400, ILLEGAL),
    _write("save-many", "Also between legal ones; none of them is written.", "/v1.0/state/statestore",
           [{"key": "x1", "value": 1}, {"key": f"stock||{KEY}", "value": "taken"}], 400, ILLEGAL),
    _write("save-escape", "Also escaped in JSON.", "/v1.0/state/statestore",
           [{"key": f"stock\u007c\u007c{KEY}", "value": "taken"}], 400, ILLEGAL),
    _write("save-metadata", "Metadata of an item changes no prefix.", "/v1.0/state/statestore",
           [{"key": KEY + "-mine", "value": "mine", "metadata": {"keyPrefix": "none", "appID": "stock"}}], 204, ""),
    _write("bulk", "A bulk get of another's prefix is illegal.", "/v1.0/state/statestore/bulk",
           {"keys": [OWN, f"stock||{KEY}"]}, 400, ILLEGAL),
    _write("bulk-plain", "A bulk get finds the own keys only.", "/v1.0/state/statestore/bulk", {"keys": [KEY]}, 200, ""),
    _write("transaction", "A transaction under another's prefix is illegal and does nothing.",
           "/v1.0/state/statestore/transaction",
           {"operations": [{"operation": "upsert", "request": {"key": "x2", "value": 1}},
                           {"operation": "delete", "request": {"key": f"stock||{KEY}"}}]}, 400, ILLEGAL),
    _write("transaction-scoped", "Nor has it a store of another.", "/v1.0/state/stockonly/transaction",
           {"operations": [{"operation": "delete", "request": {"key": KEY}}]}, 400, "ERR_STATE_STORE_NOT_FOUND"),
    _write("query", "A query is not answered with another's values.", "/v1.0-alpha1/state/statestore/query",
           {"filter": {}}, 500, "ERR_STATE_STORE_NOT_SUPPORTED"),
    Attempt("delete", "A delete of the same key name deletes the own.", 204, method="DELETE"),
    Attempt("delete-prefix", "A delete under another's prefix is illegal.", 400, method="DELETE",
            target=f"/v1.0/state/statestore/stock||{KEY}", code=ILLEGAL),
]  # fmt: skip

SECRETS = [
    _secret("env", "STOCK_ENV_TOKEN", "env", "The variable of a token is closed."),
    _secret("env", "stock_env_token", "env-case", "In any case."),
    _secret("env", "%20STOCK_ENV_TOKEN", "env-space", "Also with space around it."),
    _secret("env", "STOCK_ENV_TOKEN%00", "env-nul", "Also with a NUL behind it.", 200, ""),
    _secret("env", "%EF%BC%B3TOCK_ENV_TOKEN", "env-wide", "Also in wide letters."),
    _secret("env", "STOCK_TOKEN_COPY", "env-copy", "A copy of a token is known by its value."),
    _secret("env", "APP_API_TOKEN", "env-app-token", "APP_API_TOKEN reads as empty, as in Dapr.", 200, ""),
    _secret("prefixed", "ENV_TOKEN", "prefixed", "A prefix does not hide the variable."),
    _secret("prefixed", "TOKEN_COPY", "prefixed-copy", "Nor its copy."),
    _secret("vault", "stock:token", "file", "The secret of a token is closed."),
    _secret("vault", "STOCK:TOKEN", "file-case", "In any case."),
    _secret("vault", "stock%3Atoken", "file-encoded", "Also percent-encoded."),
    _secret("vault", "stock:channel", "file-channel", "So is the token for the app."),
    _secret("vault", "stock-token", "file-same-value", "Another secret of the same value is closed."),
    _secret("vault", "backup-of-a-token", "file-copy", "Also under an innocent name."),
    _secret("vault", "token-with-a-line-end", "file-line-end", "Also with a line end behind it."),
    _secret("vault", "hashed-token", "file-hashed", "Also a token that the App names by its hash."),
    _secret("dotted", "stock.token", "dotted", "Another separator does not hide it."),
    _secret("dotted", "stock.channel", "dotted-channel", "Nor the token for the app."),
    _secret("several", "stock", "several", "Nor the secret that holds it among others."),
    _secret("vault", "open?metadata.version_id=stock:token", "by-metadata", "Metadata names no other secret.", 200, ""),
    _secret("closed", "open", "closed", "A store that the App does not open is closed."),
    _secret("closed", "stock:token", "closed-token", "Also for the token."),
    _secret("private", "private", "private", "A store of another app is not there.", 401, "ERR_SECRET_STORE_NOT_FOUND"),
    _secret("absent", "private", "absent", "As one that does not exist.", 401, "ERR_SECRET_STORE_NOT_FOUND"),
    _secret("VAULT", "open", "store-case", "Stores are found exactly.", 401, "ERR_SECRET_STORE_NOT_FOUND"),
    _secret("vault%2F..%2Fprivate", "private", "store-path", "A path is no store.", 401, "ERR_SECRET_STORE_NOT_FOUND"),
    _secret("vault/../private", "private", "store-dots", "Dots are resolved first.", 401, "ERR_SECRET_STORE_NOT_FOUND"),
    _secret("kubernetes", "stock", "kubernetes", "There is no built-in store.", 401, "ERR_SECRET_STORE_NOT_FOUND"),
    *(_secret(store, "bulk", f"bulk-{store}", "A bulk get leaves tokens out.", 200, "") for store in STORES),
    _secret("closed", "bulk", "bulk-closed", "A closed store gives nothing.", 200, ""),
    _secret("private", "bulk", "bulk-private", "Another's store is not there.", 401, "ERR_SECRET_STORE_NOT_FOUND"),
]

POLICY = [
    _invoke("secret", "denied", "An access policy of the callee holds."),
    _invoke("secret", "spoofed", "A claimed caller does not pass it.", ("dapr-caller-app-id", "audit")),
    _invoke("secret", "spoofed-case", "Nor in another case.", ("Dapr-Caller-App-ID", "audit")),
    _invoke("secret", "spoofed-namespace", "Nor a claimed namespace.", ("dapr-caller-namespace", "default"),
            ("dapr-caller-app-id", "audit")),
    _invoke("open/../secret", "dots", "Dots are resolved before the policy."),
    _invoke("open/%2e%2e/secret", "dots-encoded", "Also encoded ones."),
    _invoke("open/%2E./secret", "dots-half-encoded", "Also half encoded ones."),
    _invoke("open%2f..%2fsecret", "slashes-encoded", "Also with encoded slashes."),
    _invoke("open/x/%2e%2e%2f..%2fsecret", "climbing-twice", "Also two steps, one of them encoded."),
    _invoke("open//../secret", "doubled", "Doubled slashes do not hide it."),
    _invoke("open;/../secret", "parameters", "Path parameters do not hide it."),
    _invoke("open/../open/../secret", "to-and-fro", "Also after going there and back."),
    _invoke("opensecret", "longer", "A longer name is another operation."),
    _invoke("%73ecret", "encoded", "Encoding a letter does not hide it."),
    _invoke("open%00", "nul", "NUL is no part of a method.", status=500),
    _invoke("open%23", "hash", "Nor is a hash sign.", status=500),
    _invoke("open%3Fx", "question-mark", "Nor is an encoded question mark.", status=500),
    _invoke("open%0d%0ax:y", "line-end", "Nor is a line end.", status=500),
    _invoke(b"open\\..\\secret", "backslashes", "Backslashes are no slashes."),
    Attempt("verb", "A verb that is not allowed is denied.", 403, method="DELETE", target=INVOKE + "open",
            code="ERR_DIRECT_INVOKE"),
    Attempt("verb-case", "Verbs are compared exactly, and this one is none.", 501, method="get",
            target=INVOKE + "open"),
    Attempt("by-header", "Naming the target by header passes no policy.", 403, [*AS_A, ("dapr-app-id", "guarded")],
            target="/secret", code="ERR_DIRECT_INVOKE"),
    Attempt("by-basic", "Nor by basic authorization.", 403,
            [*AS_A, ("authorization", _basic("dapr-app-id:guarded"))], target="/secret", code="ERR_DIRECT_INVOKE"),
    Attempt("by-header-twice", "Two targets are refused.", 400,
            [*AS_A, ("dapr-app-id", "audit"), ("dapr-app-id", "guarded")], target="/secret", code="ERR_BAD_REQUEST"),
    Attempt("by-namespace", "Nor with the namespace.", 403, target="/v1.0/invoke/guarded.default/method/secret",
            code="ERR_DIRECT_INVOKE"),
    Attempt("other-namespace", "An app is not in another namespace.", 500,
            target="/v1.0/invoke/stock.other/method/x", code="ERR_DIRECT_INVOKE"),
    Attempt("two-dots", "Two dots name nobody.", 500, target="/v1.0/invoke/stock.default.svc/method/x",
            code="ERR_DIRECT_INVOKE"),
    Attempt("trailing-dot-target", "A dot at the end names nobody.", 500, target="/v1.0/invoke/stock./method/x",
            code="ERR_DIRECT_INVOKE"),
    Attempt("target-case", "App ids are found exactly.", 500, target="/v1.0/invoke/STOCK/method/x",
            code="ERR_DIRECT_INVOKE"),
    Attempt("target-path", "A path is no app id.", 500, target="/v1.0/invoke/audit%2F..%2Fguarded/method/secret",
            code="ERR_DIRECT_INVOKE"),
    Attempt("target-nul", "NUL ends no app id.", 500, target="/v1.0/invoke/stock%00/method/x",
            code="ERR_DIRECT_INVOKE"),
    Attempt("own-url", "An absolute URL is no way to the app.", 403,
            target="/v1.0/invoke/http://127.0.0.1:1/method/secret", code="ERR_DIRECT_INVOKE"),
    Attempt("own-url-encoded", "Nor an encoded one.", 403,
            target="/v1.0/invoke/http%3A%2F%2F127.0.0.1%3A1/method/secret", code="ERR_DIRECT_INVOKE"),
    Attempt("url-by-header", "Nor one in a header.", 403, [*AS_A, ("dapr-app-id", "http://127.0.0.1:1")],
            target="/secret", code="ERR_DIRECT_INVOKE"),
    Attempt("no-token", "Nobody invokes without a token.", 401, [], target=INVOKE + "open", code=WHO,
            reason=NO_EVIDENCE),
    Attempt("unknown-path", "Nor finds out what paths there are.", 401, [], target="/no/such/path", code=WHO,
            reason=NO_EVIDENCE),
]  # fmt: skip

LISTENERS = [
    Attempt("own-port", "The own listener does not take another's token.", 401, _token(B), port="orders_http", code=WHO,
            reason="evidence_disagrees"),
    Attempt("own-socket", "Nor does the own socket.", 401, _token(B), port="orders_socket", code=WHO,
            reason="evidence_disagrees"),
    Attempt("their-port", "Another's listener does not take the own token.", 401, port="stock_http", code=WHO,
            reason="evidence_disagrees"),
    Attempt("their-socket", "Nor does another's socket.", 401, port="stock_socket", code=WHO,
            reason="evidence_disagrees"),
    Attempt("own-port-claim", "A claim changes nothing at the own listener.", 204, [("dapr-caller-app-id", "stock")],
            port="orders_http"),
    Attempt("own-port-unknown", "A wrong token is refused also there.", 401, _token("guess"), port="orders_http",
            code=WHO, reason=UNKNOWN),
    Attempt("own-port-twice", "Two tokens are refused also there.", 401, [*AS_A, *_token(B)], port="orders_http",
            code=WHO, reason=SEVERAL),
    Attempt("public-state", "The public port has no state.", 404, _token(B), port="public"),
    Attempt("public-metadata", "Nor metadata on a shared instance.", 404, _token(B), port="public",
            target="/v1.0/metadata"),
    Attempt("public-put", "Nor can it be set there.", 404, _token(B), port="public", method="PUT",
            target="/v1.0/metadata/x", body=b"y"),
    Attempt("public-dots", "Nor behind the health.", 404, _token(B), port="public",
            target="/v1.0/healthz/../metadata"),
    Attempt("public-invoke", "The public port invokes nobody.", 404, _token(B), port="public",
            target="/v1.0/invoke/stock/method/x"),
    Attempt("public-invoke-header", "Nor by header.", 404, [*_token(B), ("dapr-app-id", "stock")], port="public",
            target="/x"),
    Attempt("public-shutdown", "Nor does it shut down.", 404, _token(B), port="public", method="POST",
            target="/v1.0/shutdown"),
    Attempt("metrics-state", "The metrics port answers with metrics alone.", 200, _token(B), port="metrics_address"),
]  # fmt: skip

SYSTEM = [
    Attempt("metadata", "Metadata tells of the own app only.", 200, target="/v1.0/metadata"),
    Attempt("metadata-app", "Whatever app is asked for.", 200, [*AS_A, ("dapr-app-id", "stock")],
            target="/v1.0/metadata?appid=stock"),
    Attempt("metadata-no-token", "Nobody reads it without a token.", 401, [], target="/v1.0/metadata", code=WHO,
            reason=NO_EVIDENCE),
    Attempt("metadata-set", "What is set belongs to the own app.", 204, method="PUT", target="/v1.0/metadata/note",
            body=b"mine"),
    Attempt("shutdown", "Shutdown stops neither the instance nor another app.", 204, method="POST",
            target="/v1.0/shutdown"),
    Attempt("shutdown-force", "Nor by force.", 204, [*AS_A, ("dapr-force-shutdown", "true")], method="POST",
            target="/v1.0/shutdown"),
    Attempt("shutdown-no-token", "Nobody shuts down without a token.", 401, [], method="POST",
            target="/v1.0/shutdown", code=WHO, reason=NO_EVIDENCE),
    Attempt("big-body", "A body over the limit is refused, not held.", 400, method="POST",
            target="/v1.0/state/statestore", body=b"[" + b" " * (5 << 20) + b"]", code=ILLEGAL),
]  # fmt: skip

TABLE = {
    f"{group}-{attempt.name}": attempt
    for group, attempts in {
        "token": TOKENS,
        "claim": CLAIMS,
        "key": KEYS,
        "secret": SECRETS,
        "policy": POLICY,
        "listener": LISTENERS,
        "system": SYSTEM,
    }.items()
    for attempt in attempts
}
COUNT = sum(map(len, (TOKENS, CLAIMS, KEYS, SECRETS, POLICY, LISTENERS, SYSTEM)))
"""Of all attempts: as many as `TABLE` has, unless two share a name."""
