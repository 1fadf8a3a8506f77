"""The error table: every error that an API can answer is one row here.

Both roads end here when something goes wrong. A row says what HTTP and gRPC clients see; blocks and adapters raise it
by calling it, and `api/errors.py` is the only place that turns it into bytes. The statuses and codes are Dapr's own
where Dapr has them (reference http-api §12, grpc-api §1.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class GrpcCode(IntEnum):
    """The gRPC status codes, by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class Resource:
    """What a rich error is about (google.rpc.ResourceInfo)."""

    type: str
    name: str
    owner: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field of a request (google.rpc.BadRequest)."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One row of the table.

    `message` is a `str.format` template over the fields that the raiser gives. A row with a `reason` is answered in
    Dapr's rich form (with `details`), one without in the legacy form. `remedy` is what the reader of the error can do;
    the errors page of the documentation prints it.
    """

    code: str
    http: int
    grpc: GrpcCode
    message: str
    remedy: str
    reason: str = ""
    plain_text: bool = False

    def __call__(
        self,
        *,
        resource: Resource | None = None,
        violations: tuple[FieldViolation, ...] = (),
        info: Mapping[str, str] | None = None,
        **fields: object,
    ) -> DaprError:
        """Make the exception to raise: `raise STATE_STORE_NOT_FOUND(store="x") from cause`."""
        return DaprError(self, self.message.format(**fields), resource, violations, info or {})


class DaprError(Exception):
    """An error with a row in the table, ready to be answered over either protocol."""

    def __init__(
        self,
        row: ErrorRow,
        message: str,
        resource: Resource | None = None,
        violations: tuple[FieldViolation, ...] = (),
        info: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.row = row
        self.message = message
        self.resource = resource
        self.violations = violations
        self.info: Mapping[str, str] = info or {}
        self.metadata: Mapping[str, str] = {}
        """What a backend answered beside its failure; clients get it as response metadata."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (DaprError, (self.row, self.message, self.resource, self.violations, dict(self.info)))


@dataclass(slots=True)
class ErrorTable:
    """All rows, by the name of their constant; the documentation and the tests read it."""

    rows: dict[str, ErrorRow] = field(default_factory=dict[str, ErrorRow])

    def collect(self, names: Mapping[str, object]) -> None:
        """Take every `ErrorRow` constant of a module's namespace."""
        self.rows.update({name: value for name, value in names.items() if isinstance(value, ErrorRow)})


_C = GrpcCode

# Common ------------------------------------------------------------------------------------------------------------
MALFORMED_REQUEST = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    _C.INVALID_ARGUMENT,
    "failed deserializing HTTP body: {detail}",
    "Send a body of the documented form; the message says where the first error is.",
)
BAD_REQUEST = ErrorRow(
    "ERR_BAD_REQUEST",
    400,
    _C.INVALID_ARGUMENT,
    "invalid request: {detail}",
    "Correct the part of the request that the message names.",
)
BAD_BAGGAGE = ErrorRow(
    "ERR_BAD_REQUEST",
    400,
    _C.INVALID_ARGUMENT,
    "{detail}",
    "Send a baggage header of the W3C form, or none.",
    plain_text=True,
)
BODY_READ = ErrorRow(
    "ERR_BODY_READ",
    400,
    _C.INVALID_ARGUMENT,
    "failed to read the request body: {detail}",
    "Keep the body within --max-body-size, or raise it; send the length that was announced.",
)
INTERNAL = ErrorRow(
    "ERR_INTERNAL",
    500,
    _C.INTERNAL,
    "internal error (trace {trace})",
    "This is a defect: report it with the log line of the same trace id.",
)
UNIMPLEMENTED = ErrorRow(
    "ERR_API_UNIMPLEMENTED",
    501,
    _C.UNIMPLEMENTED,
    "{api} is not available in this version",
    "See the compatibility table for what this version offers.",
    reason="Not Implemented",
)
TOO_MANY_CALLS = ErrorRow(
    "ERR_TOO_MANY_CALLS",
    429,
    _C.RESOURCE_EXHAUSTED,
    "app {app} has {limit} calls in flight, its limit",
    "Send fewer calls at a time, or raise --max-calls-per-app.",
)

COMPONENT_BUSY = ErrorRow(
    "ERR_COMPONENT_BUSY",
    429,
    _C.RESOURCE_EXHAUSTED,
    "component {component} carries out {total} calls at a time, and app {app} waited {seconds:g} s for its turn",
    "Send fewer or quicker calls at a time, or raise the component's connections (maxConns, poolSize).",
)

# Identity ----------------------------------------------------------------------------------------------------------
INVALID_API_TOKEN = ErrorRow(
    "ERR_INVALID_API_TOKEN",
    401,
    _C.UNAUTHENTICATED,
    "invalid api token",
    "Send the value of DAPR_API_TOKEN in the dapr-api-token header or metadata.",
    reason="Unauthorized",
    plain_text=True,
)
NO_EVIDENCE = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    _C.UNAUTHENTICATED,
    "this instance serves several apps and the request proves none: send the app's token in dapr-api-token, or use "
    "the app's own listener",
    "Give the app a token (spec.tokens) or a listener (spec.listeners) in its App resource and use it.",
)
UNKNOWN_TOKEN = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    _C.UNAUTHENTICATED,
    "invalid api token: no app of this instance has the token in dapr-api-token",
    "Compare the token with spec.tokens of the App resource (sha256 is of the token's bytes, without a newline).",
)
UNKNOWN_CERTIFICATE = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    _C.UNAUTHENTICATED,
    "the client certificate is of no app of this instance, and there is no token in dapr-api-token",
    "Name the certificate in spec.certificates of the App resource, or send the app's token.",
)
CERTIFICATE_EXPIRED = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    _C.UNAUTHENTICATED,
    "the client certificate has expired since the connection was made",
    "Connect again with a valid certificate.",
)
EVIDENCE_DISAGREES = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    _C.UNAUTHENTICATED,
    "the evidence disagrees: the listener or the certificate belongs to one app and the token to another",
    "Use a listener or a certificate with its own app's token, or with no token.",
)
SERVICE_ACCOUNT_TOKEN = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    _C.UNAUTHENTICATED,
    "the service account token in dapr-api-token proves no app: {problem}",
    "Project a token for the audience of --service-account-audience into the pod, annotate the pod with dapr.io/app-id "
    "or name its service account in spec.serviceAccount of the App, and read the token's file again as it rotates.",
)
POD_AND_ACCOUNT_DISAGREE = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    _C.UNAUTHENTICATED,
    "the evidence disagrees: the annotation dapr.io/app-id of the pod names one app, and the service account is not its",
    "Give the pod the service account of its app (spec.serviceAccount of the App), or correct the annotation.",
)
IDENTITY_UNAVAILABLE = ErrorRow(
    "ERR_IDENTITY_UNAVAILABLE",
    503,
    _C.UNAVAILABLE,
    "the service account token in dapr-api-token cannot be verified now: {problem}",
    "Send the request again. If it stays so, see whether the instance reaches the API server and may create "
    "tokenreviews and get pods.",
)
ADDRESS_UNAVAILABLE = ErrorRow(
    "ERR_IDENTITY_UNAVAILABLE",
    503,
    _C.UNAVAILABLE,
    "the request brings no token, and which pod has its address is not known now",
    "Send the request again. If it stays so, see whether the instance reaches the API server and may watch pods.",
)
TOO_MANY_TOKENS = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    _C.UNAUTHENTICATED,
    "dapr-api-token was sent more than once",
    "Send dapr-api-token once.",
)

# Invocation --------------------------------------------------------------------------------------------------------
INVOKE_NO_TARGET = ErrorRow(
    "ERR_DIRECT_INVOKE",
    404,
    _C.NOT_FOUND,
    "failed getting app id either from the URL path or the header dapr-app-id",
    "Name the app in the path (/v1.0/invoke/<app>/method/<method>), in dapr-app-id, or as the user of basic authorization.",
)
INVOKE_FAILED = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    _C.INTERNAL,
    "failed to invoke, id: {app}, err: {detail}",
    "Check that the app is registered, running and reachable at its channel's address; see the detail.",
)
INVOKE_UNAVAILABLE = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    _C.UNAVAILABLE,
    "failed to invoke, id: {app}, err: {detail}",
    "Check that the app is running and reachable at its channel's address; see the detail.",
)
INVOKE_NOT_FOUND = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    _C.INTERNAL,
    "failed to invoke, id: {app}, err: couldn't find service: {app}",
    "Register the app with this instance (an App resource), or correct the id.",
)
INVOKE_TIMEOUT = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    _C.DEADLINE_EXCEEDED,
    "failed to invoke, id: {app}, err: context deadline exceeded",
    "The app did not answer in time: look at it, or raise the timeout.",
)
INVOKE_BAD_METHOD = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    _C.INTERNAL,
    "failed to invoke, id: {app}, err: invalid method name: {detail}",
    "Percent-encode the method; '#', '?', NUL and control characters are not allowed in it.",
)
INVOKE_DENIED = ErrorRow(
    "ERR_DIRECT_INVOKE",
    403,
    _C.PERMISSION_DENIED,
    "failed to invoke, id: {app}, err: {detail}",
    "The target does not allow this call; see the detail.",
)
PROXY_NO_TARGET = ErrorRow(
    "ERR_DIRECT_INVOKE",
    404,
    _C.UNKNOWN,
    "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found",
    "Send the target app's id in the gRPC metadata dapr-app-id.",
)
PEER_APP_NOT_SERVED = ErrorRow(
    "ERR_DIRECT_INVOKE",
    404,
    _C.NOT_FOUND,
    "app {app} is not served here: {detail}",
    "Check which instance serves the app, and where the caller's name resolution finds it.",
)
PEER_CALL_DENIED = ErrorRow(
    "ERR_DIRECT_INVOKE",
    403,
    _C.PERMISSION_DENIED,
    "{detail}",
    "Without mTLS no caller of another instance is known: only accessControl.defaultAction of the app lets it in.",
)
PEER_CALL_FAILED = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    _C.INTERNAL,
    "error invoking app channel: {detail}",
    "Check that the app is running and reachable at its channel's address; see the detail.",
)
PEER_CALL_INVALID = ErrorRow(
    "ERR_DIRECT_INVOKE",
    400,
    _C.INVALID_ARGUMENT,
    "parsing InternalInvokeRequest error: {detail}",
    "The caller is no instance or daprd sidecar that this one understands; see the detail.",
)

# State -------------------------------------------------------------------------------------------------------------
STATE_NOT_CONFIGURED = ErrorRow(
    "ERR_STATE_STORE_NOT_CONFIGURED",
    500,
    _C.FAILED_PRECONDITION,
    "state store {store} is not configured",
    "Load a Component of type state.*, in scope of this app.",
    reason="DAPR_STATE_NOT_CONFIGURED",
)
STATE_NOT_FOUND = ErrorRow(
    "ERR_STATE_STORE_NOT_FOUND",
    400,
    _C.INVALID_ARGUMENT,
    "state store {store} is not found",
    "Correct the name, or load the Component, in scope of this app.",
    reason="DAPR_STATE_NOT_FOUND",
)
STATE_ILLEGAL_KEY = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    _C.INVALID_ARGUMENT,
    "input key/keyPrefix '{key}' can't contain '||'",
    "Choose a key without '||'.",
    reason="DAPR_STATE_ILLEGAL_KEY",
)
STATE_KEY_EMPTY = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    _C.INVALID_ARGUMENT,
    '"key" is a required field',
    "Give each item a key.",
)
STATE_SAVE_KEY_EMPTY = ErrorRow(
    "ERR_STATE_SAVE",
    400,
    _C.INVALID_ARGUMENT,
    "state key cannot be empty",
    "Give each item a key.",
    reason="ERR_STATE_SAVE",
)
STATE_TOO_MANY_ITEMS = ErrorRow(
    "ERR_STATE_TOO_MANY_ITEMS",
    400,
    _C.INVALID_ARGUMENT,
    "the request for state store {store} has {count} items, more than {limit}",
    "Send the items in several requests.",
    reason="ERR_STATE_TOO_MANY_ITEMS",
)
STATE_BULK_GET_TOO_LARGE = ErrorRow(
    "ERR_STATE_BULK_GET_TOO_LARGE",
    400,
    _C.RESOURCE_EXHAUSTED,
    "the values of these keys in state store {store} are more than {limit} bytes together",
    "Ask for fewer keys at a time.",
    reason="ERR_STATE_BULK_GET_TOO_LARGE",
)
STATE_GET = ErrorRow(
    "ERR_STATE_GET",
    500,
    _C.INTERNAL,
    "failed to get {key} from state store {store}: {detail}",
    "Look at the state store; see the detail.",
    reason="ERR_STATE_GET",
)
STATE_SAVE = ErrorRow(
    "ERR_STATE_SAVE",
    500,
    _C.INTERNAL,
    "failed saving state in state store {store}: {detail}",
    "Look at the state store; see the detail.",
    reason="ERR_STATE_SAVE",
)
STATE_SAVE_ETAG_MISMATCH = ErrorRow(
    "ERR_STATE_SAVE",
    409,
    _C.ABORTED,
    "failed saving state in state store {store}: possible etag mismatch: {detail}",
    "Read the value again and save it with its present etag.",
    reason="ERR_STATE_SAVE",
)
STATE_SAVE_ETAG_INVALID = ErrorRow(
    "ERR_STATE_SAVE",
    400,
    _C.INVALID_ARGUMENT,
    "failed saving state in state store {store}: invalid etag: {detail}",
    "Send the etag as this store gave it.",
    reason="ERR_STATE_SAVE",
)
STATE_SAVE_INVALID = ErrorRow(
    "ERR_STATE_SAVE",
    400,
    _C.INVALID_ARGUMENT,
    "failed saving state in state store {store}: {detail}",
    "Correct the item that the message names.",
    reason="ERR_STATE_SAVE",
)
STATE_DELETE = ErrorRow(
    "ERR_STATE_DELETE",
    500,
    _C.INTERNAL,
    "failed deleting state with key {key}: {detail}",
    "Look at the state store; see the detail.",
    reason="ERR_STATE_DELETE",
)
STATE_DELETE_ETAG_MISMATCH = ErrorRow(
    "ERR_STATE_DELETE",
    409,
    _C.ABORTED,
    "failed deleting state with key {key}: possible etag mismatch: {detail}",
    "Read the value again and delete it with its present etag.",
    reason="ERR_STATE_DELETE",
)
STATE_DELETE_ETAG_INVALID = ErrorRow(
    "ERR_STATE_DELETE",
    400,
    _C.INVALID_ARGUMENT,
    "failed deleting state with key {key}: invalid etag: {detail}",
    "Send the etag as this store gave it.",
    reason="ERR_STATE_DELETE",
)
STATE_BULK_DELETE = ErrorRow(
    "ERR_STATE_BULK_DELETE",
    500,
    _C.INTERNAL,
    "failed deleting state in state store {store}: {detail}",
    "Look at the state store; see the detail.",
    reason="ERR_STATE_BULK_DELETE",
)
STATE_BULK_DELETE_ETAG_MISMATCH = ErrorRow(
    "ERR_STATE_BULK_DELETE",
    409,
    _C.ABORTED,
    "failed deleting state in state store {store}: possible etag mismatch: {detail}",
    "Read the values again and delete them with their present etags; what had its etag is deleted.",
    reason="ERR_STATE_BULK_DELETE",
)
STATE_BULK_DELETE_ETAG_INVALID = ErrorRow(
    "ERR_STATE_BULK_DELETE",
    400,
    _C.INVALID_ARGUMENT,
    "failed deleting state in state store {store}: invalid etag: {detail}",
    "Send each etag as this store gave it.",
    reason="ERR_STATE_BULK_DELETE",
)
STATE_BULK_GET = ErrorRow(
    "ERR_STATE_BULK_GET",
    500,
    _C.INTERNAL,
    "failed to get the keys from state store {store}: {detail}",
    "Look at the state store; see the detail.",
    reason="ERR_STATE_BULK_GET",
)
STATE_TRANSACTION = ErrorRow(
    "ERR_STATE_TRANSACTION",
    500,
    _C.INTERNAL,
    "error while executing state transaction: {detail}",
    "Nothing of the transaction was written. Look at the detail, correct it and send the transaction again.",
    reason="ERR_STATE_TRANSACTION",
)
STATE_OPERATION_NOT_SUPPORTED = ErrorRow(
    "ERR_NOT_SUPPORTED_STATE_OPERATION",
    400,
    _C.UNIMPLEMENTED,
    "operation type {operation} not supported",
    "Use upsert or delete.",
    reason="ERR_NOT_SUPPORTED_STATE_OPERATION",
)
STATE_TRANSACTIONS_NOT_SUPPORTED = ErrorRow(
    "ERR_STATE_STORE_NOT_SUPPORTED",
    500,
    _C.UNIMPLEMENTED,
    "state store {store} doesn't support transactions",
    "Use a store with the TRANSACTIONAL capability.",
    reason="DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED",
)
STATE_TOO_MANY_TRANSACTIONS = ErrorRow(
    "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS",
    400,
    _C.INVALID_ARGUMENT,
    "the transaction contains {count} operations, more than what the state store {store} supports: {limit}",
    "Split the transaction.",
    reason="DAPR_STATE_TOO_MANY_TRANSACTIONS",
)
STATE_QUERY_NOT_SUPPORTED = ErrorRow(
    "ERR_STATE_STORE_NOT_SUPPORTED",
    500,
    _C.INTERNAL,
    "state store does not support querying",
    "Use a store with the QUERY_API capability.",
    reason="DAPR_STATE_QUERYING_NOT_SUPPORTED",
)
STATE_QUERY = ErrorRow(
    "ERR_STATE_QUERY",
    500,
    _C.INTERNAL,
    "failed query in state store {store}: {detail}",
    "Look at the query and the detail.",
    reason="DAPR_STATE_QUERY_FAILED",
)

# Publish and subscribe ---------------------------------------------------------------------------------------------
PUBSUB_NAME_EMPTY = ErrorRow(
    "ERR_PUBSUB_EMPTY",
    404,
    _C.INVALID_ARGUMENT,
    "pubsub name is empty",
    "Name the pubsub component.",
    reason="DAPR_PUBSUB_NAME_EMPTY",
)
PUBSUB_SUBSCRIBE = ErrorRow(
    "ERR_PUBSUB_SUBSCRIBE",
    500,
    _C.INTERNAL,
    "failed to subscribe to topic {topic} of pubsub {pubsub}: {detail}",
    "Look at the broker; see the detail.",
)
PUBSUB_STREAM_ENDED = ErrorRow(
    "ERR_PUBSUB_STREAM_ENDED",
    503,
    _C.UNAVAILABLE,
    "the stream on topic {topic} of pubsub {pubsub} has ended: {detail}",
    "Open it again; what was not answered comes again.",
)
PUBSUB_NOT_FOUND = ErrorRow(
    "ERR_PUBSUB_NOT_FOUND",
    404,
    _C.INVALID_ARGUMENT,
    "pubsub {pubsub} is not found",
    "Correct the name, or load the Component, in scope of this app.",
    reason="DAPR_PUBSUB_NOT_FOUND",
)
PUBSUB_TOPIC_EMPTY = ErrorRow(
    "ERR_TOPIC_NAME_EMPTY",
    404,
    _C.INVALID_ARGUMENT,
    "topic is empty in pubsub {pubsub}",
    "Name the topic behind the pubsub component.",
    reason="DAPR_PUBSUB_TOPIC_NAME_EMPTY",
)
PUBSUB_METADATA = ErrorRow(
    "ERR_PUBSUB_REQUEST_METADATA",
    400,
    _C.INVALID_ARGUMENT,
    "failed deserializing metadata. Error: {detail}",
    "Give the metadata rawPayload as true or false.",
    reason="DAPR_PUBSUB_METADATA_DESERIALIZATION",
)
PUBSUB_FORBIDDEN = ErrorRow(
    "ERR_PUBSUB_FORBIDDEN",
    403,
    _C.PERMISSION_DENIED,
    "topic {topic} is not allowed for app id {app}",
    "See allowedTopics, protectedTopics and publishingScopes of the pubsub component.",
    reason="DAPR_PUBSUB_FORBIDDEN",
)
PUBSUB_CLOUD_EVENT = ErrorRow(
    "ERR_PUBSUB_CLOUD_EVENTS_SER",
    500,
    _C.INVALID_ARGUMENT,
    "cannot create cloudevent",
    "A body of type application/cloudevents+json is one JSON object; the details say what is wrong with it.",
    reason="DAPR_PUBSUB_CLOUD_EVENT_CREATION",
)
PUBSUB_EVENT_TYPE = ErrorRow(
    "ERR_PUBSUB_EVENTS_SER",
    400,
    _C.INVALID_ARGUMENT,
    "error when marshalling cloud event envelope for topic {topic} pubsub {pubsub}: {detail}",
    "Make each event and its contentType fit: base64 text for octet-stream, text for text/*, any JSON for JSON.",
    reason="DAPR_PUBSUB_MARSHAL_ENVELOPE",
)
PUBSUB_ENTRIES = ErrorRow(
    "ERR_PUBSUB_EVENTS_SER",
    400,
    _C.INVALID_ARGUMENT,
    "error marshaling events to bytes for topic {topic} pubsub {pubsub}. error: {detail}",
    "Give each entry an entryId of its own.",
    reason="DAPR_PUBSUB_MARSHAL_EVENTS",
)
PUBSUB_BODY = ErrorRow(
    "ERR_PUBSUB_EVENTS_SER",
    400,
    _C.INVALID_ARGUMENT,
    "error when unmarshaling the request for topic {topic} pubsub {pubsub}: {detail}",
    "Send a JSON array of entries; the message says where the first error is.",
    reason="DAPR_PUBSUB_UNMARSHAL_EVENTS",
)
PUBSUB_PUBLISH = ErrorRow(
    "ERR_PUBSUB_PUBLISH_MESSAGE",
    500,
    _C.INTERNAL,
    "error when publishing to topic {topic} in pubsub {pubsub}: {detail}",
    "Look at the broker; see the detail. Nothing else than what is listed as failed has to be sent again.",
    reason="DAPR_PUBSUB_PUBLISH_MESSAGE",
)
PUBSUB_OUTBOX = ErrorRow(
    "ERR_PUBLISH_OUTBOX",
    500,
    _C.INTERNAL,
    "error while publishing outbox message: {detail}",
    "Look at the broker that the state store's outboxPubsub names; the transaction was not carried out: send it again.",
    reason="DAPR_PUBSUB_OUTBOX",
)

# Bindings ----------------------------------------------------------------------------------------------------------
BINDING_INVOKE = ErrorRow(
    "ERR_INVOKE_OUTPUT_BINDING",
    500,
    _C.INTERNAL,
    "error invoking output binding {name}: {detail}",
    "Name a bindings component in scope of this app and one of its operations; else look at the external system.",
    reason="ERR_INVOKE_OUTPUT_BINDING",
)

# Configuration -----------------------------------------------------------------------------------------------------
CONFIGURATION_NOT_CONFIGURED = ErrorRow(
    "ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
    500,
    _C.FAILED_PRECONDITION,
    "configuration stores not configured",
    "Load a Component of type configuration.*, in scope of this app.",
    reason="ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
)
CONFIGURATION_NOT_FOUND = ErrorRow(
    "ERR_CONFIGURATION_STORE_NOT_FOUND",
    400,
    _C.INVALID_ARGUMENT,
    "configuration store {store} not found",
    "Correct the name, or load the Component, in scope of this app.",
    reason="ERR_CONFIGURATION_STORE_NOT_FOUND",
)
CONFIGURATION_GET = ErrorRow(
    "ERR_CONFIGURATION_GET",
    500,
    _C.INTERNAL,
    "failed to get {keys} from Configuration store {store}: {detail}",
    "Look at the configuration store; see the detail.",
    reason="ERR_CONFIGURATION_GET",
)
CONFIGURATION_SUBSCRIBE = ErrorRow(
    "ERR_CONFIGURATION_SUBSCRIBE",
    500,
    _C.INVALID_ARGUMENT,
    "failed to subscribe {keys} from Configuration store {store}: {detail}",
    "Look at the configuration store; see the detail.",
    reason="ERR_CONFIGURATION_SUBSCRIBE",
)
CONFIGURATION_UNSUBSCRIBE = ErrorRow(
    "ERR_CONFIGURATION_UNSUBSCRIBE",
    500,
    _C.INTERNAL,
    "failed to unsubscribe to configuration request {id}: {detail}",
    "Give the id that subscribing answered, as the app that subscribed.",
)
CONFIGURATION_TOO_MANY_SUBSCRIPTIONS = ErrorRow(
    "ERR_CONFIGURATION_TOO_MANY_SUBSCRIPTIONS",
    429,
    _C.RESOURCE_EXHAUSTED,
    "app {app} has {limit} configuration subscriptions, the most there may be",
    "Unsubscribe from what is no longer needed, or name several keys in one subscription.",
    reason="ERR_CONFIGURATION_TOO_MANY_SUBSCRIPTIONS",
)
APP_CHANNEL_NIL = ErrorRow(
    "ERR_APP_CHANNEL_NIL",
    500,
    _C.INTERNAL,
    "app channel is not initialized. {detail}",
    "Give the app a channel (its port), so that it can be called.",
)

# Locks -------------------------------------------------------------------------------------------------------------
LOCK_NOT_CONFIGURED = ErrorRow(
    "ERR_LOCK_STORE_NOT_CONFIGURED",
    500,
    _C.FAILED_PRECONDITION,
    "lock store is not configured",
    "Load a Component of type lock.*, in scope of this app.",
)
LOCK_NOT_FOUND = ErrorRow(
    "ERR_LOCK_STORE_NOT_FOUND",
    400,
    _C.INVALID_ARGUMENT,
    "lock store {store} not found",
    "Correct the name, or load the Component, in scope of this app.",
)
LOCK_RESOURCE_EMPTY = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    _C.INVALID_ARGUMENT,
    "ResourceId is empty in lock store {store}",
    "Name the resource to lock.",
)
LOCK_OWNER_EMPTY = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    _C.INVALID_ARGUMENT,
    "LockOwner is empty in lock store {store}",
    "Name who holds the lock.",
)
LOCK_EXPIRY = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    _C.INVALID_ARGUMENT,
    "ExpiryInSeconds is not positive in lock store {store}",
    "Give the lock at least one second.",
)
LOCK_TRY = ErrorRow(
    "ERR_TRY_LOCK",
    500,
    _C.INTERNAL,
    "failed to try acquiring lock: {detail}",
    "Look at the lock store; see the detail.",
)
LOCK_UNLOCK = ErrorRow(
    "ERR_UNLOCK",
    500,
    _C.INTERNAL,
    "failed to release lock: {detail}",
    "Look at the lock store; see the detail.",
)

# Secrets -----------------------------------------------------------------------------------------------------------
SECRET_STORES_NOT_CONFIGURED = ErrorRow(
    "ERR_SECRET_STORES_NOT_CONFIGURED",
    500,
    _C.FAILED_PRECONDITION,
    "secret store is not configured",
    "Load a Component of type secretstores.*, in scope of this app.",
)
SECRET_STORE_NOT_FOUND = ErrorRow(
    "ERR_SECRET_STORE_NOT_FOUND",
    401,
    _C.INVALID_ARGUMENT,
    "failed finding secret store with key {store}",
    "Correct the name, or load the Component, in scope of this app.",
)
SECRET_DENIED = ErrorRow(
    "ERR_PERMISSION_DENIED",
    403,
    _C.PERMISSION_DENIED,
    "access denied by policy to get {key} from {store}",
    "On a shared instance, open the secret in spec.secrets of the App; elsewhere in the Configuration's secrets scopes.",
)
SECRET_GET = ErrorRow(
    "ERR_SECRET_GET",
    500,
    _C.INTERNAL,
    "failed getting secret with key {key} from secret store {store}: {detail}",
    "Check that the secret exists and the store is reachable; see the detail.",
)

# Health, metadata, shutdown ----------------------------------------------------------------------------------------
HEALTH_NOT_READY = ErrorRow(
    "ERR_HEALTH_NOT_READY",
    500,
    _C.UNAVAILABLE,
    "dapr is not ready: {detail}",
    "Wait, or look at what the message lists as unhealthy.",
)
OUTBOUND_HEALTH_NOT_READY = ErrorRow(
    "ERR_OUTBOUND_HEALTH_NOT_READY",
    500,
    _C.UNAVAILABLE,
    "dapr outbound is not ready: {detail}",
    "Wait, or look at what the message lists as not ready.",
)
HEALTH_APPID_NOT_MATCH = ErrorRow(
    "ERR_HEALTH_APPID_NOT_MATCH",
    500,
    _C.INVALID_ARGUMENT,
    "dapr app-id does not match",
    "Ask for the app id that this instance serves.",
)
METADATA_TOO_LARGE = ErrorRow(
    "ERR_BAD_REQUEST",
    400,
    _C.INVALID_ARGUMENT,
    "metadata of app {app}: {detail}",
    "Remove entries or shorten the value.",
)

TABLE = ErrorTable()
TABLE.collect(globals())
