"""Errors of requests that prove no app, or not the right one.

Rows of the error table: `core/errors/__init__.py`.
"""

from __future__ import annotations

from dapr_shared.core.errors.rows import ErrorRow, GrpcCode

INVALID_API_TOKEN = ErrorRow(
    "ERR_INVALID_API_TOKEN",
    401,
    GrpcCode.UNAUTHENTICATED,
    "invalid api token",
    "Send the value of DAPR_API_TOKEN in the dapr-api-token header or metadata.",
    reason="Unauthorized",
    plain_text=True,
)
NO_EVIDENCE = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    GrpcCode.UNAUTHENTICATED,
    "this instance serves several apps and the request proves none: send the app's token in dapr-api-token, or use "
    "the app's own listener",
    "Give the app a token (spec.tokens) or a listener (spec.listeners) in its App resource and use it.",
)
UNKNOWN_TOKEN = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    GrpcCode.UNAUTHENTICATED,
    "invalid api token: no app of this instance has the token in dapr-api-token",
    "Compare the token with spec.tokens of the App resource (sha256 is of the token's bytes, without a newline).",
)
UNKNOWN_CERTIFICATE = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    GrpcCode.UNAUTHENTICATED,
    "the client certificate is of no app of this instance, and there is no token in dapr-api-token",
    "Name the certificate in spec.certificates of the App resource, or send the app's token.",
)
CERTIFICATE_EXPIRED = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    GrpcCode.UNAUTHENTICATED,
    "the client certificate has expired since the connection was made",
    "Connect again with a valid certificate.",
)
EVIDENCE_DISAGREES = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    GrpcCode.UNAUTHENTICATED,
    "the evidence disagrees: the listener or the certificate belongs to one app and the token to another",
    "Use a listener or a certificate with its own app's token, or with no token.",
)
SERVICE_ACCOUNT_TOKEN = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    GrpcCode.UNAUTHENTICATED,
    "the service account token in dapr-api-token proves no app: {problem}",
    "Project a token for the audience of --service-account-audience into the pod, annotate the pod with dapr.io/app-id "
    "or name its service account in spec.serviceAccount of the App, and read the token's file again as it rotates.",
)
POD_AND_ACCOUNT_DISAGREE = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    GrpcCode.UNAUTHENTICATED,
    "the evidence disagrees: the annotation dapr.io/app-id of the pod names one app, and the service account is not its",
    "Give the pod the service account of its app (spec.serviceAccount of the App), or correct the annotation.",
)
IDENTITY_UNAVAILABLE = ErrorRow(
    "ERR_IDENTITY_UNAVAILABLE",
    503,
    GrpcCode.UNAVAILABLE,
    "the service account token in dapr-api-token cannot be verified now: {problem}",
    "Send the request again. If it stays so, see whether the instance reaches the API server and may create "
    "tokenreviews and get pods.",
)
ADDRESS_UNAVAILABLE = ErrorRow(
    "ERR_IDENTITY_UNAVAILABLE",
    503,
    GrpcCode.UNAVAILABLE,
    "the request brings no token, and which pod has its address is not known now",
    "Send the request again. If it stays so, see whether the instance reaches the API server and may watch pods.",
)
TOO_MANY_TOKENS = ErrorRow(
    "ERR_UNAUTHENTICATED",
    401,
    GrpcCode.UNAUTHENTICATED,
    "dapr-api-token was sent more than once",
    "Send dapr-api-token once.",
)
