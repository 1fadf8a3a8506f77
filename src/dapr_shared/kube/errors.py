"""What the API server refuses, as errors whose texts say who tried what, where, and what to do about it.

Beside both roads. Texts never hold a token, the content of an object, or a header.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.kube.objects import JsonObject, ObjectKind

_LONGEST: Final = 400
"""Characters of the server's own text that are shown."""
_RBAC: Final = re.compile(r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) (?:resource|path) "')
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"


class Asked(NamedTuple):
    """What was tried, for texts."""

    verb: str
    """As in RBAC: `get`, `list`, `watch`, `create`, `patch`, `update`, `delete`."""
    kind: ObjectKind
    namespace: str = ""
    """Empty: all namespaces, or a cluster-scoped kind."""
    name: str = ""
    subresource: str = ""

    @property
    def resource(self) -> str:
        """As RBAC names it, with the subresource: `apps/status.shared.dapr.io` is written `apps.shared.dapr.io/status`."""
        return f"{self.kind.resource}/{self.subresource}" if self.subresource else self.kind.resource

    @property
    def place(self) -> str:
        """`in namespace shop`, or `in all namespaces`."""
        return f"in namespace {self.namespace}" if self.namespace else "cluster-wide"

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {self.resource}{name} {self.place}"


if TYPE_CHECKING:
    Advise = Callable[[str, str, str], str]
    """How a right that is missing is given, in words: of verb, API group and resource, or path."""


class KubeError(Exception):
    """The API server did not do what was asked. The message is for operators."""

    def __init__(self, status: int, reason: str, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; 0: there was no answer."""
        self.reason = reason
        """The server's word: `NotFound`, `AlreadyExists`, `Forbidden`; empty: it gave none."""
        self.message = message
        self.retry_after = retry_after
        """Seconds that the server asks to wait; 0: it did not say."""


class NotFound(KubeError):  # noqa: N818 - named after the server's reasons, as are those below
    """404: no such object, or no such kind."""


class Conflict(KubeError):  # noqa: N818
    """409: somebody else was faster, or it exists already (`reason` says which)."""


class Forbidden(KubeError):  # noqa: N818
    """403: RBAC does not allow it, or an admission rule refuses it."""

    missing = ""
    """The verb that RBAC does not allow; empty: the server says something else."""


class Gone(KubeError):  # noqa: N818
    """410: the server does not remember that version any more; list again."""


class Unauthorized(KubeError):  # noqa: N818
    """401: the credentials prove nobody."""


class Unavailable(KubeError):  # noqa: N818
    """No connection, no answer in time, 429 or 5xx: try again later."""


class KubeConfigError(Exception):
    """There is no usable configuration of an API server; the message names the file and the field."""


_BY_STATUS: Final[dict[int, type[KubeError]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: Unavailable,
}


def error_of(
    asked: Asked, status: int, body: JsonObject, *, retry_after: float = 0.0, advise: Advise | None = None
) -> KubeError:
    """The error of an answer that is none of 2xx. `body` is a `Status`, or empty where the server sent none.

    `advise` says how a right that is missing is given.
    """
    reason = str(body.get("reason") or "")
    said = str(body.get("message") or "").strip()[:_LONGEST]
    row = Unavailable if status >= 500 else _BY_STATUS.get(status, KubeError)
    if row is Forbidden:
        return _forbidden(asked, reason, said, retry_after, advise)
    return row(status, reason, _text(asked, status, said), retry_after=retry_after)


def _text(asked: Asked, status: int, said: str) -> str:
    if status == 401:
        return f"{asked}: the API server does not accept the credentials (401); the token may have expired"
    if status == 404:
        if asked.name:
            return f"{asked}: not found"
        return f"{asked}: the API server does not know this kind; is its CustomResourceDefinition installed?"
    if status == 410:
        return f"{asked}: the version asked for is too old"
    return f"{asked}: the API server answered {status}{': ' if said else ''}{said}"


def _forbidden(asked: Asked, reason: str, said: str, retry_after: float, advise: Advise | None) -> Forbidden:
    found = _RBAC.search(said)
    if found is None:
        text = f"{asked} is refused: {said or 'the API server says no more (403)'}"
        return Forbidden(403, reason, text, retry_after=retry_after)
    verb, group = found["verb"], asked.kind.group
    resource = f"{asked.kind.plural}/{asked.subresource}" if asked.subresource else asked.kind.plural
    what = f'apiGroups: ["{group}"], resources: [{resource}]' if asked.kind.kind else f"nonResourceURLs: [{resource}]"
    error = Forbidden(
        403,
        reason,
        f"{asked.resource} is forbidden: {account(found['user'])} needs the verb {verb} on {asked.resource}"
        f" {asked.place}: {'Role' if asked.namespace else 'ClusterRole'} with {{{what}, verbs: [{verb}]}}"
        f"{'; ' if advise else ''}{advise(verb, group, resource) if advise else ''}",
        retry_after=retry_after,
    )
    error.missing = verb
    return error


def account(user: str) -> str:
    """A user name of the cluster in words: `the service account shop/dapr`."""
    if user.startswith(_SERVICE_ACCOUNT):
        return f"the service account {user.removeprefix(_SERVICE_ACCOUNT).replace(':', '/', 1)}"
    return f"the user {user}"


def unreachable(asked: Asked, server: str, problem: str) -> Unavailable:
    """There was no answer, or only part of one."""
    return Unavailable(0, "", f"{asked}: the API server at {server} {problem}")
