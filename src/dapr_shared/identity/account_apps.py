"""Which app a verified service account token stands for.

Step 2 of the request road. Two things speak: the annotation `dapr.io/app-id` of the pod that the token is bound to, and
`spec.serviceAccount` of the Apps. Where both do they must agree; and an App that names its service account is proved by
no pod that has another. An App that claims a service account of another
namespace is heard only where that namespace itself says nothing: nobody can take the pods of others, or have them
refused, by a claim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dapr_shared.core import errors
from dapr_shared.core.ids import AppRef
from dapr_shared.identity.caller import Caller, Evidence
from dapr_shared.identity.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dapr_shared.identity.caller import RegisteredApp
    from dapr_shared.identity.service_accounts import PodFact


class ServiceAccount(NamedTuple):
    """A service account of the cluster."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}:{self.name}"


class AccountConflict(NamedTuple):
    """Apps that claim one service account."""

    account: ServiceAccount
    apps: tuple[AppRef, ...]
    """All of them."""
    proves: AppRef | None = None
    """The only one of the account's own namespace; `None`: it proves none."""

    def __str__(self) -> str:
        whom = f"{self.proves} alone, the app of its namespace" if self.proves is not None else "none of them"
        return f"apps {' and '.join(map(str, self.apps))} claim the service account {self.account}, which proves {whom}"


class AccountApps:
    """The apps by their service accounts."""

    def __init__(self, records: Iterable[RegisteredApp] = ()) -> None:
        claimed: dict[ServiceAccount, list[AppRef]] = {}
        for record in records:
            if record.app.service_account:
                namespace, _, name = record.app.service_account.partition(":")
                claimed.setdefault(ServiceAccount(namespace, name), []).append(record.ref)
        self._apps: dict[ServiceAccount, AppRef] = {}
        conflicts: list[AccountConflict] = []
        for account, refs in claimed.items():
            own = [ref for ref in refs if ref.namespace == account.namespace]
            heard = own or refs
            if len(heard) == 1:
                self._apps[account] = heard[0]
            if len(refs) > 1:
                conflicts.append(AccountConflict(account, tuple(refs), self._apps.get(account)))
        self._disputed = frozenset(conflict.account for conflict in conflicts if conflict.account not in self._apps)
        self.conflicts = tuple(conflicts)

    def caller(self, account: ServiceAccount, pod: PodFact | None, apps: Mapping[AppRef, RegisteredApp]) -> Caller:
        """The app of who has this service account and is this pod. Raises `RefusedError`."""
        claiming = self._apps.get(account)
        annotated = AppRef(pod.app_id, account.namespace) if pod is not None and pod.app_id else None
        if annotated is not None and claiming is not None and claiming != annotated:
            if claiming.namespace == account.namespace or annotated not in apps:
                raise RefusedError("evidence_disagrees", errors.POD_AND_ACCOUNT_DISAGREE())
            claiming = None
        if annotated is not None:
            record = apps.get(annotated)
            if record is None:
                raise _no_app("app_not_served", "its pod's annotation dapr.io/app-id names no app of this instance")
            if record.app.service_account not in {"", str(account)}:
                raise RefusedError("evidence_disagrees", errors.POD_AND_ACCOUNT_DISAGREE())
            both = (Evidence.POD, Evidence.SERVICE_ACCOUNT) if claiming is not None else (Evidence.POD,)
            return Caller(record, both)
        if claiming is not None:
            return Caller(apps[claiming], (Evidence.SERVICE_ACCOUNT,))
        if account in self._disputed:
            raise _no_app("service_account_of_several", "several apps claim its service account")
        raise _no_app(
            "service_account_of_no_app",
            "no app has its service account, and its pod, if it is bound to one, has no annotation dapr.io/app-id",
        )


def _no_app(reason: str, problem: str) -> RefusedError:
    return RefusedError(reason, errors.SERVICE_ACCOUNT_TOKEN(problem=problem))
