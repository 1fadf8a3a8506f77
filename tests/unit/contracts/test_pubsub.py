"""What all brokers share: how a message's time to live is read."""

from __future__ import annotations

import pytest

from dapr_shared.contracts.pubsub import time_to_live


@pytest.mark.parametrize(
    ("metadata", "seconds"),
    [
        ({}, None),
        ({"ttlInSeconds": "10"}, 10.0),
        ({"TTLINSECONDS": " 1m30s "}, 90.0),
        ({"ttl": "500ms"}, 0.5),
        ({"ttlInSeconds": "0"}, None),
        ({"ttlInSeconds": "-5"}, None),
        ({"ttlInSeconds": "soon"}, None),
        ({"ttlInSeconds": "1.5"}, None),
        ({"ttlInSeconds": "9" * 30}, None),
        ({"ttlInSeconds": "soon", "ttl": "7"}, 7.0),
        ({"rawPayload": "true"}, None),
    ],
)
def test_time_to_live(metadata, seconds):
    """A Go duration or whole seconds above 0, whatever the case of the name; anything else is no time to live."""
    assert time_to_live(metadata) == seconds
