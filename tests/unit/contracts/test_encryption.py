"""Keys of encrypting state stores: what is taken, and that a refusal tells nothing of the key."""

from __future__ import annotations

import pytest

from dapr_shared.contracts.encryption import read_keys
from dapr_shared.contracts.settings import SettingError

KEY = "00112233445566778899aabbccddeeff"
BOTH = {"primaryencryptionkey": "new", "secondaryencryptionkey": "old"}


def test_keys_are_read():
    """Keys of 128, 192 and 256 bits, in any letters, under the names of their secrets."""
    for text in (KEY, KEY.upper(), KEY + KEY[:16], KEY + KEY):
        keys = read_keys({"primaryencryptionkey": text, "secondaryencryptionkey": KEY}, BOTH)
        assert keys is not None
        assert (keys.primary.name, keys.primary.secret) == ("new", bytes.fromhex(text))
        assert keys.secondary is not None
        assert keys.secondary.name == "old"
    assert read_keys({"keyprefix": "none"}, {}) is None


@pytest.mark.parametrize("text", ["", "abc", KEY[:-2], KEY + "00", "g" * 32, f" {KEY}", "00 " * 15 + "000", KEY * 4])
def test_wrong_keys(text):
    """A key of a wrong length, or of other characters, is refused by name, without a part of it in the message."""
    with pytest.raises(SettingError, match=r"^primaryEncryptionKey: must be an AES key") as caught:
        read_keys({"primaryencryptionkey": text}, BOTH)
    assert not text or text not in str(caught.value)
    assert caught.value.__cause__ is None


def test_where_keys_come_from():
    """A key that is written out is refused, and so is a secondary key alone: both would leave values unprotected."""
    with pytest.raises(SettingError, match="secretKeyRef"):
        read_keys({"primaryencryptionkey": KEY}, {})
    with pytest.raises(SettingError, match="given without primaryEncryptionKey"):
        read_keys({"secondaryencryptionkey": KEY}, BOTH)
    with pytest.raises(SettingError, match=r"contains '\|\|'"):
        read_keys({"primaryencryptionkey": KEY}, {"primaryencryptionkey": "a||b"})


def test_keys_have_no_text():
    """Neither a key nor a pair of them shows its bytes."""
    keys = read_keys({"primaryencryptionkey": KEY, "secondaryencryptionkey": KEY}, BOTH)
    assert "\\x" not in repr(keys)
    assert "new" in repr(keys)
