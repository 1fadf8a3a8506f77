"""A look at the secrets that hold tokens of apps, so that one that was deleted or changed soon proves nobody.

Assembly of an instance that leaves out what is wrong. Following Secrets would need the right to list and watch them, which
means to read all of a namespace; so each is asked for by itself, now and then, however many apps refer to it.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from dapr_shared.resources.values import SecretError, UnusableSecretError
from dapr_shared.runtime.tokens import value_problem
from dapr_shared.security.secrets import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.events import Events
    from dapr_shared.runtime.reload import Reloader
    from dapr_shared.runtime.secret_readers import SecretPlace, SecretReaders
    from dapr_shared.runtime.tokens import Token

PERIOD = 30.0
"""Seconds between two looks at one secret, where `RATE` allows."""
RATE = 10.0
"""Secrets looked at in a second at most: above 300 secrets each is looked at less often, a thousand every 100 seconds."""
GATHER = 1.0
"""Seconds for which what has changed is gathered before it is put in force."""
_SPREAD = 0.1
"""Share by which each time differs, so that replicas do not ask together."""


class TokenWatch:
    """Runs beside an instance."""

    def __init__(self, reloader: Reloader, secrets: SecretReaders, events: Events) -> None:
        self._reloader = reloader
        self._secrets = secrets
        self._events = events
        self._due: dict[SecretPlace, float] = {}
        self._others = asyncio.Event()
        self._others.set()
        reloader.on_tokens.append(self._others.set)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        changed: set[AppRef] = set()
        since = 0.0
        while True:
            if self._others.is_set():
                self._others.clear()
                self._plan(loop.time())
            place = min(self._due, key=self._due.__getitem__, default=None)
            wait = PERIOD if place is None else max(self._due[place] - loop.time(), 1 / RATE)
            if changed and loop.time() + wait > since + GATHER:
                await self._reloader.read_tokens(changed)
                changed = set()
                continue
            await self._wait(wait)
            if place is None or place not in self._due or loop.time() < self._due[place]:
                continue
            self._due[place] = loop.time() + _spread(PERIOD)
            found = await self._look(place)
            if found and not changed:
                since = loop.time()
            changed |= found

    def _plan(self, now: float) -> None:
        """Look at exactly the secrets that are referred to; those that are new were read a moment ago."""
        self._due = {place: self._due.get(place) or now + _spread(PERIOD) for place in self._reloader.token_secrets}

    async def _look(self, place: SecretPlace) -> set[AppRef]:
        """The apps of which a token has changed.

        It is asked also while other kinds of the cluster cannot be followed: that says nothing of Secrets.
        """
        try:
            values: Mapping[str, str] = await self._secrets.fresh(place) or {}
        except UnusableSecretError:
            values = {}
        except SecretError:  # what is known goes on; it is told when all secrets are read again
            return set()
        except Exception as error:  # noqa: BLE001 - a defect of a store must not end an instance that serves many apps
            self._events.defect("a look at the secrets of tokens", error)
            return set()
        return {ref for ref, token in self._reloader.token_secrets.get(place, ()) if _differs(token, values)}

    async def _wait(self, seconds: float) -> None:
        """So long, or until other secrets are referred to."""
        try:
            async with asyncio.timeout(seconds):
                await self._others.wait()
        except TimeoutError:
            pass


def _differs(token: Token, values: Mapping[str, str]) -> bool:
    """Whether a source holds something else than when it was read, or could not be read then and can be now."""
    reference = token.source.secret_key_ref
    value = values.get(reference.effective_key, "") if reference is not None else ""
    found = None if value_problem(value) else digest(value)
    return not token.read or found != token.digest


def _spread(seconds: float) -> float:
    return seconds * random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311 - spreads load
