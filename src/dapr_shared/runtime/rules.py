"""What each app may do, compiled when apps are loaded and replaced as a whole on reload.

Assembly: joins the decisions of `security/` to the questions that pipeline and blocks ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dapr_shared.resources.model import ChannelProtocol
from dapr_shared.security.access_control import AccessPolicy, Decision
from dapr_shared.security.api_access import ApiAccess
from dapr_shared.security.secrets import ProtectedSecrets, SecretRules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import Caller, RegisteredApp
    from dapr_shared.resources.model import App

_HTTP = frozenset({ChannelProtocol.HTTP, ChannelProtocol.HTTPS, ChannelProtocol.H2C})
_NOT_SERVED = Decision(allowed=False, policy=None)


@dataclass(frozen=True, slots=True)
class _RulesOfApp:
    secrets: SecretRules
    api: ApiAccess
    access: AccessPolicy
    trust_domain: str


class Rules:
    """The rules of all apps. Answers for `api.pipeline`, `blocks.secrets` and `blocks.invoke`."""

    def __init__(self, *, multi_app: bool) -> None:
        self._multi_app = multi_app
        self._apps: dict[AppRef, _RulesOfApp] = {}
        self._protected = ProtectedSecrets()

    def compile(
        self, records: Iterable[RegisteredApp], digests: Iterable[bytes], left_out: Iterable[App] = ()
    ) -> Rules:
        """The rules of these apps, as a new object; `digests` are those of all resolved tokens.

        `left_out`: apps that are not served; where their tokens are kept is protected too.

        Raises `SecurityConfigurationError`.
        """
        made = Rules(multi_app=self._multi_app)
        records = list(records)
        made._protected = ProtectedSecrets.collect([*(record.app for record in records), *left_out], digests)
        for record in records:
            channel = record.app.channel
            access = AccessPolicy(record.ref, record.configuration, http=not channel or channel.protocol in _HTTP)
            made._apps[record.ref] = _RulesOfApp(
                SecretRules(
                    multi_app=self._multi_app,
                    app=record.app,
                    configuration=record.configuration,
                ),
                ApiAccess(record.configuration),
                access,
                access.trust_domain,
            )
        return made

    def adopt(self, made: Rules) -> None:
        """Apply what `compile` made from now on."""
        self._apps = made._apps
        self._protected = made._protected

    def allowed(self, caller: Caller, protocol: str, api: str, version: str, route: str = "") -> bool:
        """Whether the caller's Configuration lets it use an API."""
        rules = self._apps.get(caller.ref)
        if rules is None:
            return False
        access = rules.api
        return access.http(api, version, route) if protocol == "http" else access.grpc(api, version)

    def decide(self, caller: Caller, callee: AppRef, operation: str, verb: str) -> Decision:
        """Whether the callee's access control lets the caller in."""
        rules = self._apps.get(callee)
        of_caller = self._apps.get(caller.ref)
        if rules is None or of_caller is None:
            return _NOT_SERVED
        return rules.access.decide(caller.ref, of_caller.trust_domain, operation, verb)

    def decide_unproved(self, callee: AppRef, operation: str, verb: str) -> Decision:
        """Whether the callee's access control lets a caller in that nothing proves: its default action decides."""
        rules = self._apps.get(callee)
        return rules.access.decide(None, "", operation, verb) if rules is not None else _NOT_SERVED

    def secret_allowed(self, caller: Caller, store: str, name: str) -> bool:
        """Whether the caller's scopes open a secret."""
        rules = self._apps.get(caller.ref)
        return rules is not None and rules.secrets.allowed(store, name)

    @property
    def protected(self) -> ProtectedSecrets:
        """The tokens of all apps, as names and digests."""
        return self._protected


class SecretPolicyOfRules:
    """The secrets block's questions, answered by the rules in force."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def allowed(self, caller: Caller, store: str, name: str) -> bool:
        """Whether the caller's scopes open a secret."""
        return self._rules.secret_allowed(caller, store, name)

    def name_protected(self, names: Iterable[str]) -> bool:
        """Whether one of these names is a token of some app."""
        return self._rules.protected.name_protected(names)

    def value_protected(self, values: Iterable[str]) -> bool:
        """Whether one of these values is a token of some app."""
        return self._rules.protected.value_protected(values)
