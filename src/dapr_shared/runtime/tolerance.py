"""One app cannot stop another: what can be put in force of resources of which some are wrong.

Assembly of an instance in a cluster. Each step of a reload is taken for each resource by itself. What is wrong is left
out, or stays as it was where it was in force before; it is told, and tried again later (decision page 0025).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from dapr_shared.blocks.pubsub.routing import RuleError, compile_routes
from dapr_shared.components.definition import find_duplicates
from dapr_shared.identity.account_apps import AccountApps
from dapr_shared.identity.apps import AppRegistry, IdentityConfigurationError
from dapr_shared.resources.errors import one_line
from dapr_shared.runtime.apps import AppResolver, AppsError, ResolvedApp, ResolvedApps, namespace_conflicts
from dapr_shared.runtime.components import Wanted
from dapr_shared.runtime.prepared import Prepared
from dapr_shared.runtime.refusals import Refusal
from dapr_shared.runtime.tracing import TracingConfigurationError, plan_of
from dapr_shared.security.errors import SecurityConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from dapr_shared.components.definition import ComponentStartError, Definition, OpeningKey
    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources.loader import Resources
    from dapr_shared.resources.model import App, Subscription
    from dapr_shared.runtime.assembly import Parts
    from dapr_shared.runtime.secret_readers import SecretPlace
    from dapr_shared.runtime.tokens import Token


_LOOKED_AT_ONCE = 16
"""Apps whose secrets are read at a time."""


@dataclass(slots=True)
class Attempt:
    """One attempt to put resources in force."""

    wanted: Resources
    in_force: Resources
    resolver: AppResolver
    read_again: bool = False
    """Read the secrets of all apps again, also of those that have not changed."""
    open_again: bool = False
    """Try components again that could not be opened."""
    excluded: Mapping[AppRef, str] = field(default_factory=dict["AppRef", str])
    """Apps that failed in a step that comes later, with the problem."""
    looked_at: dict[AppRef, ResolvedApp | AppsError] = field(default_factory=dict["AppRef", "ResolvedApp | AppsError"])
    """What became of the apps that were looked at; kept when the attempt is made again."""
    standing: dict[AppRef, ResolvedApp] = field(default_factory=dict["AppRef", ResolvedApp])
    """Of each app that was in force before, what of it stays where its new version cannot be put in force: the former
    one, proved by what the sources of its tokens hold now."""
    refused: list[Refusal] = field(default_factory=list[Refusal])


class Tolerance:
    """Knows what is in force, and what was tried in vain."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._in_force: dict[AppRef, ResolvedApp] = {}
        self._stores: frozenset[OpeningKey] = frozenset()
        self._held_back: dict[OpeningKey, ComponentStartError] = {}
        """Components that could not be opened: opening may take long, so other changes do not wait for it again."""
        self._stale: set[AppRef] = set()
        self.token_secrets: Mapping[SecretPlace, Sequence[tuple[AppRef, Token]]] = {}
        """The secrets that tokens of the apps in force are read from, with what they held when they were read."""

    def look_again(self, refs: Iterable[AppRef]) -> None:
        """Read the tokens of these apps again in the next attempt, though they have not changed."""
        self._stale.update(refs)

    async def prepare(self, attempt: Attempt) -> Prepared:
        """What can be put in force. Raises nothing of what resources can get wrong."""
        parts, wanted = self._parts, attempt.wanted
        subscriptions = self._subscriptions(attempt)
        refs = [app.ref for app in wanted.apps]
        self._refuse_components(attempt, await parts.loader.try_secret_stores(wanted.components, refs))
        definitions = await self._definitions(attempt)
        await asyncio.sleep(0)  # of a thousand apps these steps are some ten milliseconds each: requests go between
        found = await self._resolve(attempt)
        found = self._with_rules(attempt, found)
        found = self._told_apart(attempt, found)
        found, definitions = self._with_own_places(attempt, found, definitions)
        resolved = ResolvedApps(tuple(found))
        attempt.refused += _wrong_tokens(found)
        attempt.refused += _disputed_accounts(found)
        await asyncio.sleep(0)
        served = {app.record.ref for app in found}
        left_out = [app for app in wanted.apps if app.ref not in served]
        targets = await parts.targets.try_build(wanted.http_endpoints, attempt.resolver.read_secret)
        attempt.refused += [
            Refusal("HTTPEndpoint", each.origin, problem, kept=kept) for each, problem, kept in targets.failures
        ]
        return Prepared(
            resources=msgspec.structs.replace(
                wanted, apps=tuple(app.record.app for app in found), subscriptions=subscriptions
            ),
            wanted=Wanted(tuple(definitions)),
            resolved=resolved,
            rules=parts.rules.compile(resolved.records, resolved.digests, left_out),
            targets=targets.made,
            traced=parts.tracing.plan(resolved.records),
        )

    async def open(self, attempt: Attempt, prepared: Prepared, apps: Collection[AppRef]) -> None:
        """Open the components for these apps."""
        failures = await self._parts.loader.try_load(prepared.wanted.definitions, apps)
        self._refuse_components(attempt, failures)
        failed = {(error.origin, error.component): error for error in failures}
        for definition in prepared.wanted.definitions:
            error = failed.get((definition.resource.origin, definition.resource.name))
            if error is not None:
                self._held_back[definition.opening_key] = error
            else:
                self._held_back.pop(definition.opening_key, None)

    def adopt(self, prepared: Prepared) -> None:
        """Remember what is in force now."""
        self._in_force = {app.record.ref: app for app in prepared.resolved.apps}
        self._stale.clear()
        secrets: dict[SecretPlace, list[tuple[AppRef, Token]]] = {}
        for ref, app in self._in_force.items():
            for token in app.tokens:
                if token.place is not None:
                    secrets.setdefault(token.place, []).append((ref, token))
        self.token_secrets = secrets

    # Components ------------------------------------------------------------------------------------------------------
    async def _definitions(self, attempt: Attempt) -> list[Definition]:
        """What to open; where the values cannot be read, or opening failed a while ago, what is open already."""
        loader = self._parts.loader
        wanted = await loader.define(attempt.wanted.components)
        self._refuse_components(attempt, wanted.failures)
        unread = {(error.namespace, error.component, error.origin) for error in wanted.failures}
        definitions: list[Definition] = []
        held: dict[OpeningKey, ComponentStartError] = {}
        for definition in wanted.definitions:
            error = None if attempt.open_again else self._held_back.get(definition.opening_key)
            if error is None:
                definitions.append(definition)
                continue
            held[definition.opening_key] = error
            self._refuse_components(attempt, [error])
            definitions += loader.shown(definition.resource)
        for component in attempt.wanted.components:
            if (component.namespace, component.name, component.origin) in unread:
                definitions += loader.shown(component)
        self._held_back = held
        apps = [app.ref for app in attempt.wanted.apps]
        twice = find_duplicates(definitions, apps)
        self._refuse_components(attempt, twice)
        taken = {error.origin for error in twice}
        return list({id(d): d for d in definitions if d.resource.origin not in taken}.values())

    def _refuse_components(self, attempt: Attempt, failures: Iterable[ComponentStartError]) -> None:
        shown = self._parts.registry.shown_as
        attempt.refused += [
            Refusal("Component", error.origin, error.problem, kept=bool(shown(error.namespace, error.component)))
            for error in failures
        ]

    # Apps ------------------------------------------------------------------------------------------------------------
    async def _resolve(self, attempt: Attempt) -> list[ResolvedApp]:
        stores = frozenset(
            d.opening_key for d in self._parts.registry.shown if d.resource.type.startswith("secretstores.")
        )
        again = attempt.read_again or stores != self._stores
        self._stores = stores
        unseen = iter([app for app in attempt.wanted.apps if app.ref not in attempt.looked_at])

        async def look() -> None:
            for app in unseen:
                attempt.looked_at[app.ref] = await self._resolve_one(attempt, app, again=again)

        async with asyncio.TaskGroup() as looking:  # each may wait for a secret
            for _ in range(_LOOKED_AT_ONCE):
                looking.create_task(look(), name="looking at apps")
        found: list[ResolvedApp] = []
        for app in attempt.wanted.apps:
            resolved = attempt.looked_at[app.ref]
            problem = attempt.excluded.get(app.ref)
            if problem is None and isinstance(resolved, AppsError):
                problem = _without_place(app, resolved.problems)
            if problem is None and isinstance(resolved, ResolvedApp):
                found.append(resolved)
            else:
                found += self._former(attempt, app, problem or "")
        return found

    async def _resolve_one(self, attempt: Attempt, app: App, *, again: bool) -> ResolvedApp | AppsError:
        former, resolver = self._in_force.get(app.ref), attempt.resolver
        try:
            configuration = resolver.configuration(app)
        except AppsError:
            changed = True
        else:
            changed = former is None or former.record.app != app or former.record.configuration != configuration
        if former is None:
            before: Sequence[Token] = ()
        elif changed or again or app.ref in self._stale or any(token.refused for token in former.tokens):
            attempt.standing[app.ref] = await resolver.with_tokens_of_now(former)
            before = former.tokens
        else:
            attempt.standing[app.ref] = former
            return former
        try:
            return await resolver.resolve_served(app, before)
        except AppsError as error:
            return error

    def _former(self, attempt: Attempt, app: App, problem: str) -> list[ResolvedApp]:
        """Refuse an app; what of it was in force before stays."""
        former = attempt.standing.get(app.ref)
        attempt.refused.append(Refusal(_kind_of(app), app.origin, problem, kept=former is not None))
        return [former] if former is not None else []

    def _with_rules(self, attempt: Attempt, found: Sequence[ResolvedApp]) -> list[ResolvedApp]:
        """Those whose Configurations can be followed."""
        checked: list[ResolvedApp] = []
        good: set[int] = set()
        for app in found:
            if attempt.standing.get(app.record.ref) is app:  # so they could
                checked.append(app)
                continue
            configuration = app.record.configuration
            try:
                if configuration is not None and id(configuration) not in good:
                    plan_of(configuration, os.environ)
                self._parts.rules.compile([app.record], ())
            except (SecurityConfigurationError, TracingConfigurationError) as error:
                checked += self._former(attempt, app.record.app, f"its Configuration cannot be followed: {error}")
            else:
                good.add(id(configuration))
                checked.append(app)
        return checked

    def _told_apart(self, attempt: Attempt, found: Sequence[ResolvedApp]) -> list[ResolvedApp]:
        """Without apps that claim what proves another one; who had it before keeps it."""
        chosen = {app.record.ref: app for app in found}
        while (clash := self._first_clash(chosen.values())) is not None:
            app, owner, problem = clash
            ref, record = app.record.ref, app.record
            standing = attempt.standing.get(ref)
            if standing is app:  # its Secret holds the token of another now; its certificates were its own before
                standing = app.without_tokens(owner.record.token_digests, problem)
                if standing.record.token_digests != record.token_digests:
                    chosen[ref] = attempt.standing[ref] = standing
                    continue
                standing = None
            if standing is None:
                del chosen[ref]
            else:
                chosen[ref] = standing
            attempt.refused.append(Refusal(_kind_of(record.app), record.app.origin, problem, kept=standing is not None))
        return list(chosen.values())

    def _first_clash(self, apps: Collection[ResolvedApp]) -> tuple[ResolvedApp, ResolvedApp, str] | None:
        """The first app that claims what is another's, that other, and the problem. What proved an app before is its own."""
        owners: dict[object, ResolvedApp] = {}
        for app in apps:
            former = self._in_force.get(app.record.ref)
            if former is not None:
                owners.update(dict.fromkeys(_claims(app) & _claims(former), app))
        checked = AppRegistry()
        for app in apps:
            for claim in _claims(app):
                owner = owners.setdefault(claim, app)
                if owner is not app:
                    try:
                        checked.replace([owner.record, app.record])
                    except IdentityConfigurationError as error:
                        return app, owner, str(error)
        return None

    def _with_own_places(
        self, attempt: Attempt, found: Sequence[ResolvedApp], definitions: Sequence[Definition]
    ) -> tuple[list[ResolvedApp], list[Definition]]:
        """Without what would bring the data of one app id of two namespaces together.

        An app that is new gives way; where both were served before, the component that is new does.
        """
        apps, kept = list(found), list(definitions)
        given = attempt.resolver.given_namespace
        while True:
            served = [app.record.app for app in apps]
            conflict = next(iter(namespace_conflicts(served, kept, self._parts.registry.preview, given)), None)
            if conflict is None:
                return apps, kept
            shown = self._parts.registry.shown
            new = [ref for ref in (conflict.app, conflict.other) if ref not in self._in_force]
            changed = [d for d in (conflict.definition, conflict.other_definition) if d not in shown]
            if new or not changed:
                gone = new[0] if new else conflict.app
                loser = next(app for app in apps if app.record.ref == gone)
                apps.remove(loser)
                app = loser.record.app
                attempt.refused.append(Refusal(_kind_of(app), app.origin, conflict.problem))
            else:
                resource = changed[0].resource
                former = self._parts.loader.shown(resource)
                kept = [d for d in kept if d is not changed[0]]
                kept += [d for d in former if d not in kept]
                attempt.refused.append(Refusal("Component", resource.origin, conflict.problem, kept=bool(former)))

    # Subscriptions ---------------------------------------------------------------------------------------------------
    @staticmethod
    def _subscriptions(attempt: Attempt) -> tuple[Subscription, ...]:
        former = {(each.namespace, each.name, each.scopes): each for each in attempt.in_force.subscriptions}
        found: list[Subscription] = []
        for each in attempt.wanted.subscriptions:
            try:
                compile_routes((rule.match, rule.path) for rule in each.rules)
            except RuleError as error:
                kept = former.get((each.namespace, each.name, each.scopes))
                attempt.refused.append(Refusal("Subscription", each.origin, str(error), kept=kept is not None))
                found += [kept] if kept is not None else []
            else:
                found.append(each)
        return tuple(found)


def _claims(app: ResolvedApp) -> set[object]:
    """What proves an app, in forms that can be compared."""
    certificates = {(bool(name.spiffe_id), bool(name.dns_name), str(name)) for name in app.record.app.certificates}
    return {*app.record.token_digests, *certificates}


def _wrong_tokens(found: Sequence[ResolvedApp]) -> list[Refusal]:
    """What to tell of apps of which a token proves nobody, or cannot be read now: the rest of them is in force."""
    return [
        Refusal(_kind_of(app.record.app), app.record.app.origin, problem, partly=True)
        for app in found
        for problem in app.problems
    ]


def _disputed_accounts(found: Sequence[ResolvedApp]) -> list[Refusal]:
    """What to tell of apps that claim the service account of another: they are served, and it does not prove them."""
    by_ref = {app.record.ref: app.record.app for app in found}
    return [
        Refusal(_kind_of(by_ref[ref]), by_ref[ref].origin, f"spec.serviceAccount: {conflict}", partly=True)
        for conflict in AccountApps(app.record for app in found).conflicts
        for ref in conflict.apps
        if ref != conflict.proves
    ]


def _without_place(app: App, problems: Sequence[str]) -> str:
    """The problems without the place, which is told beside them."""
    return one_line(AppsError([problem.removeprefix(f"{app.origin}: ") for problem in problems]))


def _kind_of(app: App) -> str:
    """The kind of the object that describes an app."""
    first = app.origin.file.partition(" ")[0]
    return first if first in ("Service", "Pod") else "App"
