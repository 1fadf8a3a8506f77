"""Errors of publishing and of subscriptions.

Rows of the error table: `core/errors/__init__.py`.
"""

from __future__ import annotations

from dapr_shared.core.errors.rows import ErrorRow, GrpcCode

PUBSUB_NAME_EMPTY = ErrorRow(
    "ERR_PUBSUB_EMPTY",
    404,
    GrpcCode.INVALID_ARGUMENT,
    "pubsub name is empty",
    "Name the pubsub component.",
    reason="DAPR_PUBSUB_NAME_EMPTY",
)
PUBSUB_SUBSCRIBE = ErrorRow(
    "ERR_PUBSUB_SUBSCRIBE",
    500,
    GrpcCode.INTERNAL,
    "failed to subscribe to topic {topic} of pubsub {pubsub}: {detail}",
    "Look at the broker; see the detail.",
)
PUBSUB_STREAM_ENDED = ErrorRow(
    "ERR_PUBSUB_STREAM_ENDED",
    503,
    GrpcCode.UNAVAILABLE,
    "the stream on topic {topic} of pubsub {pubsub} has ended: {detail}",
    "Open it again; what was not answered comes again.",
)
PUBSUB_NOT_FOUND = ErrorRow(
    "ERR_PUBSUB_NOT_FOUND",
    404,
    GrpcCode.INVALID_ARGUMENT,
    "pubsub {pubsub} is not found",
    "Correct the name, or load the Component, in scope of this app.",
    reason="DAPR_PUBSUB_NOT_FOUND",
)
PUBSUB_TOPIC_EMPTY = ErrorRow(
    "ERR_TOPIC_NAME_EMPTY",
    404,
    GrpcCode.INVALID_ARGUMENT,
    "topic is empty in pubsub {pubsub}",
    "Name the topic behind the pubsub component.",
    reason="DAPR_PUBSUB_TOPIC_NAME_EMPTY",
)
PUBSUB_METADATA = ErrorRow(
    "ERR_PUBSUB_REQUEST_METADATA",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "failed deserializing metadata. Error: {detail}",
    "Give the metadata rawPayload as true or false.",
    reason="DAPR_PUBSUB_METADATA_DESERIALIZATION",
)
PUBSUB_FORBIDDEN = ErrorRow(
    "ERR_PUBSUB_FORBIDDEN",
    403,
    GrpcCode.PERMISSION_DENIED,
    "topic {topic} is not allowed for app id {app}",
    "See allowedTopics, protectedTopics and publishingScopes of the pubsub component.",
    reason="DAPR_PUBSUB_FORBIDDEN",
)
PUBSUB_CLOUD_EVENT = ErrorRow(
    "ERR_PUBSUB_CLOUD_EVENTS_SER",
    500,
    GrpcCode.INVALID_ARGUMENT,
    "cannot create cloudevent",
    "A body of type application/cloudevents+json is one JSON object; the details say what is wrong with it.",
    reason="DAPR_PUBSUB_CLOUD_EVENT_CREATION",
)
PUBSUB_EVENT_TYPE = ErrorRow(
    "ERR_PUBSUB_EVENTS_SER",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "error when marshalling cloud event envelope for topic {topic} pubsub {pubsub}: {detail}",
    "Make each event and its contentType fit: base64 text for octet-stream, text for text/*, any JSON for JSON.",
    reason="DAPR_PUBSUB_MARSHAL_ENVELOPE",
)
PUBSUB_ENTRIES = ErrorRow(
    "ERR_PUBSUB_EVENTS_SER",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "error marshaling events to bytes for topic {topic} pubsub {pubsub}. error: {detail}",
    "Give each entry an entryId of its own.",
    reason="DAPR_PUBSUB_MARSHAL_EVENTS",
)
PUBSUB_BODY = ErrorRow(
    "ERR_PUBSUB_EVENTS_SER",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "error when unmarshaling the request for topic {topic} pubsub {pubsub}: {detail}",
    "Send a JSON array of entries; the message says where the first error is.",
    reason="DAPR_PUBSUB_UNMARSHAL_EVENTS",
)
PUBSUB_PUBLISH = ErrorRow(
    "ERR_PUBSUB_PUBLISH_MESSAGE",
    500,
    GrpcCode.INTERNAL,
    "error when publishing to topic {topic} in pubsub {pubsub}: {detail}",
    "Look at the broker; see the detail. Nothing else than what is listed as failed has to be sent again.",
    reason="DAPR_PUBSUB_PUBLISH_MESSAGE",
)
PUBSUB_OUTBOX = ErrorRow(
    "ERR_PUBLISH_OUTBOX",
    500,
    GrpcCode.INTERNAL,
    "error while publishing outbox message: {detail}",
    "Look at the broker that the state store's outboxPubsub names; the transaction was not carried out: send it again.",
    reason="DAPR_PUBSUB_OUTBOX",
)
