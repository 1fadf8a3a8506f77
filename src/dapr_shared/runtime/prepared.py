"""Resources that were read through and found right: what is left is to put them in force.

Assembly, the first half of a reload: nothing that serves has changed yet, but the secret stores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dapr_shared.blocks.pubsub.routing import RuleError, compile_routes
from dapr_shared.identity.apps import AppRegistry
from dapr_shared.runtime.apps import AppsError, namespace_conflicts, resolve_apps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources.loader import Resources
    from dapr_shared.resources.model import Subscription
    from dapr_shared.runtime.apps import AppResolver, ResolvedApps
    from dapr_shared.runtime.assembly import Parts
    from dapr_shared.runtime.components import Wanted
    from dapr_shared.runtime.rules import Rules
    from dapr_shared.runtime.targets import Targets
    from dapr_shared.runtime.tracing import TracingPlan


@dataclass(frozen=True, slots=True)
class Prepared:
    """A set of resources with everything that was made of them."""

    resources: Resources
    wanted: Wanted
    resolved: ResolvedApps
    rules: Rules
    targets: Targets
    traced: Mapping[AppRef, tuple[str, TracingPlan]]


async def prepare(parts: Parts, resources: Resources, resolver: AppResolver) -> Prepared:
    """Make everything of resources that can be made before they are in force. Raises one of `WRONG_RESOURCES`."""
    wrong = _wrong_rules(resources.subscriptions)
    if wrong:
        raise AppsError(wrong)
    await parts.loader.load_secret_stores(resources.components, [app.ref for app in resources.apps])
    wanted = await parts.loader.define(resources.components)
    conflicts = namespace_conflicts(
        resources.apps, wanted.definitions, parts.registry.preview, resolver.given_namespace
    )
    if conflicts:
        raise AppsError([str(conflict) for conflict in conflicts])
    resolved = await resolve_apps(resources.apps, resolver)
    rules = parts.rules.compile(resolved.records, resolved.digests)
    targets = await parts.targets.build(resources.http_endpoints, resolver.read_secret)
    AppRegistry().replace(resolved.records)  # two apps with one token: found before anything changes
    return Prepared(resources, wanted, resolved, rules, targets, parts.tracing.plan(resolved.records))


def _wrong_rules(subscriptions: Sequence[Subscription]) -> list[str]:
    """One line for each rule that does not compile, naming file, subscription and rule."""
    problems: list[str] = []
    for subscription in subscriptions:
        try:
            compile_routes((rule.match, rule.path) for rule in subscription.rules)
        except RuleError as error:
            problems.append(f"{subscription.origin}: Subscription {subscription.name}: {error}")
    return problems
