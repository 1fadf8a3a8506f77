"""Random ids."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from dapr_shared.core.ids import random_id


def test_random_ids_are_uuids_of_version_4():
    """Each is in the usual text form, of version 4 and the variant of RFC 9562; all variants come."""
    ids = [random_id() for _ in range(1000)]
    assert all(str(uuid.UUID(one)) == one for one in ids)
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in ids} == {(4, uuid.RFC_4122)}
    assert {one[19] for one in ids} == set("89ab")


def test_no_random_id_comes_twice():
    """Also not to threads that ask at the same time."""
    with ThreadPoolExecutor(8) as threads:
        drawn = threads.map(lambda _: [random_id() for _ in range(1000)], range(16))
        ids = [one for some in drawn for one in some]
    assert len(set(ids)) == 16_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_ids_of_its_own():
    """What was drawn before a fork is not used on both sides."""
    code = (
        "from dapr_shared.core.ids import random_id as r; import os; r(); os.fork(); os.write(1, f'{r()}\\n'.encode())"
    )
    # In a process without threads, which forking is safe for.
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30).stdout
    first, second = out.split()
    assert first != second
