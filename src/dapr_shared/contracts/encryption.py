"""The keys with which the runtime encrypts what it gives to a state store.

Read before both roads, when a component is opened; used in step 4 of the request road. Facts: reference behaviours §2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dapr_shared.contracts.settings import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

PRIMARY = "primaryEncryptionKey"
SECONDARY = "secondaryEncryptionKey"
KEY_NAMES = frozenset({PRIMARY.lower(), SECONDARY.lower()})
"""Names of the metadata items that hold keys, in lower case."""
KEY_BYTES = (16, 24, 32)
"""Lengths of an AES key."""


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """One AES key."""

    name: str
    """Name of the secret that it came from: it is written beside each value that the key has encrypted."""
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EncryptionKeys:
    """The keys of one component."""

    primary: EncryptionKey
    """Encrypts what is written, and decrypts what it has encrypted."""
    secondary: EncryptionKey | None = None
    """Only decrypts: the primary one of before."""

    def named(self, name: str) -> tuple[EncryptionKey, ...]:
        """The keys that may have encrypted a value beside which this name stands: two where one secret holds both."""
        return tuple(key for key in (self.primary, self.secondary) if key is not None and key.name == name)


def read_keys(values: Mapping[str, str], secret_names: Mapping[str, str]) -> EncryptionKeys | None:
    """The keys in a component's metadata; `None` where it has none. Both maps have names in lower case.

    `secret_names`: the secrets that the values come from. Raises `SettingError`, without a word of the key: for a key
    that comes from no secret store (Dapr would write values that it cannot read), that is not 32, 48 or 64 hexadecimal
    digits, and for a secondary key alone (Dapr would write in the clear).
    """
    primary, secondary = (_read(name, values, secret_names) for name in (PRIMARY, SECONDARY))
    if primary is None:
        if secondary is not None:
            raise SettingError(SECONDARY, f"is given without {PRIMARY}, so that nothing would be encrypted")
        return None
    return EncryptionKeys(primary, secondary)


def _read(name: str, values: Mapping[str, str], secret_names: Mapping[str, str]) -> EncryptionKey | None:
    text = values.get(name.lower())
    if text is None:
        return None
    secret_name = secret_names.get(name.lower(), "")
    if not secret_name:
        raise SettingError(name, "must come from a secret store: use secretKeyRef")
    if "||" in secret_name:
        raise SettingError(name, "the name of its secret contains '||', which ends a value before the key's name")
    try:
        secret = bytes.fromhex(text)
    except ValueError:  # its message would show where the key has which character
        secret = b""
    if len(secret) not in KEY_BYTES or len(text) != 2 * len(secret):
        raise SettingError(name, "must be an AES key of 128, 192 or 256 bits as 32, 48 or 64 hexadecimal digits")
    return EncryptionKey(secret_name, secret)
