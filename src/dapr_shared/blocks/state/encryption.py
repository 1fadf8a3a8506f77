"""Encryption of values before a store gets them, in the form that daprd reads and writes.

Step 4 of the request road. A stored value is `base64(nonce ‖ ciphertext ‖ tag)`, `||`, and the name of the key; AES-GCM
with a random nonce of 12 bytes. So one key is good for about four thousand million writes. Facts: behaviours §2.
"""

from __future__ import annotations

import base64
import binascii
import os
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from dapr_shared.contracts.component import BackendError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from dapr_shared.contracts.encryption import EncryptionKeys
    from dapr_shared.contracts.state import SetRequest, StateValue

NONCE_BYTES = 12
TAG_BYTES = 16
_CONTENT_TYPE = "contentType"
_SEPARATOR = b"||"


class DecryptionError(BackendError):
    """A stored value cannot be decrypted. The message holds nothing of the value, nor of a key."""


def encrypted(keys: EncryptionKeys, request: SetRequest) -> SetRequest:
    """The write with its value encrypted by the primary key: bytes that are no JSON, whatever they were."""
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + _cipher(keys.primary.secret).encrypt(nonce, request.value, None)
    metadata = request.metadata
    if _CONTENT_TYPE in metadata:  # it would have a store take the ciphertext for JSON
        metadata = {name: value for name, value in metadata.items() if name != _CONTENT_TYPE}
    value = base64.b64encode(sealed) + _SEPARATOR + keys.primary.name.encode()
    return msgspec.structs.replace(request, value=value, is_json=False, metadata=metadata)


def decrypted(keys: EncryptionKeys, value: StateValue) -> StateValue:
    """The value as it was before it was encrypted; an empty one as it is. Raises `DecryptionError`.

    The key is the one of the name that stands beside the value; where both have that name, the one that fits.
    """
    if not value.data:
        return value
    text, separator, name = value.data.rpartition(_SEPARATOR)
    if not separator or not name:
        raise DecryptionError("the value is not encrypted, or not by Dapr: it names no encryption key")
    candidates = keys.named(name.decode("utf-8", "replace"))
    if not candidates:
        raise DecryptionError("the value is encrypted with a key that is neither the primary nor the secondary one")
    try:
        sealed = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise DecryptionError("the encrypted value is damaged: it is not base64") from error
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise DecryptionError("the encrypted value is damaged: it is too short")
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - the cipher of a key has loaded it already or does so now

    cause: InvalidTag | None = None
    for key in candidates:
        try:
            data = _cipher(key.secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
        except InvalidTag as error:
            cause = error
            continue
        return msgspec.structs.replace(value, data=data, is_json=None)
    raise DecryptionError(
        f"the value does not belong to the encryption key {candidates[0].name}: the key is another one now, or the value is damaged"
    ) from cause


@lru_cache(maxsize=64)
def _cipher(secret: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - few instances encrypt

    return AESGCM(secret)
