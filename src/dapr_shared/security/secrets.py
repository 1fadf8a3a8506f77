"""Which secrets an app may read.

Step 3 of the request road. Three rules stand one behind the other: the store is open to the app and its scopes allow
the name (`SecretRules`), and neither the name nor the value belongs to a token of any app (`ProtectedSecrets`).
"""

from __future__ import annotations

import unicodedata
from hashlib import sha256
from typing import TYPE_CHECKING

from dapr_shared.resources.model import App, Configuration, MetadataItem, SecretScope, TokenSource
from dapr_shared.security.errors import SecurityConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dapr_shared.resources.origin import Origin

KUBERNETES_STORE = "kubernetes"
"""The store that Dapr registers by itself in Kubernetes. It reads every secret of the namespace, so that it is closed
on an instance with several apps, whatever a scope says (design §5.5)."""


class SecretRules:
    """What one app may read, compiled once when its resources are loaded.

    On a multi-app instance a store is closed until `spec.secrets` of the App has a scope for it. In single-app mode a
    store without a scope is open, as in Dapr. A scope of the App and one of its Configuration must both allow a name.
    Within a scope a non-empty list of allowed secrets decides alone; then the denied ones; then the default
    (reference resources §4, behaviours §10). Names are compared exactly, as Dapr does.
    """

    __slots__ = ("_closed_by_default", "_protected", "_scopes", "_stores")

    def __init__(
        self,
        *,
        multi_app: bool,
        app: App | None,
        configuration: Configuration | None,
        protected: frozenset[str] = frozenset(),
    ) -> None:
        """`protected`: names that are refused in every store, from `ProtectedSecrets.names`.

        Raises `SecurityConfigurationError` when two scopes of one resource are about the same store.
        """
        of_app = _by_store(app.secrets.scopes, app.origin, f"App {app.name}") if app else {}
        of_configuration = (
            _by_store(configuration.secret_scopes, configuration.origin, f"Configuration {configuration.name}")
            if configuration
            else {}
        )
        self._closed_by_default = multi_app
        self._stores = frozenset(of_app) - {KUBERNETES_STORE}
        self._scopes = {
            store: tuple(_Scope(scopes[store]) for scopes in (of_app, of_configuration) if store in scopes)
            for store in of_app.keys() | of_configuration.keys()
        }
        self._protected = frozenset(_canonical(name) for name in protected)

    def store_open(self, store: str) -> bool:
        """Whether the app may use this store at all."""
        return not self._closed_by_default or store in self._stores

    def allowed(self, store: str, name: str) -> bool:
        """Whether the app may read this secret of this store.

        What the store knows the secret by, and its value, are for `ProtectedSecrets` to check.
        """
        if not self.store_open(store) or (self._protected and _canonical(name) in self._protected):
            return False
        return all(scope.allows(name) for scope in self._scopes.get(store, ()))


class ProtectedSecrets:
    """The tokens of all apps, as names and as SHA-256 digests, so that no app reads one as a secret.

    Names alone do not do: the same file or environment may be reached through another component under other names. No
    token is kept in readable form.
    """

    __slots__ = ("_digests", "names")

    def __init__(self, names: Iterable[str] = (), digests: Iterable[bytes] = ()) -> None:
        self.names = frozenset(_canonical(name) for name in names if name)
        """In a form that ignores case, surrounding space and the Unicode spelling."""
        self._digests = frozenset(digests) - {digest("")}

    @classmethod
    def collect(cls, apps: Iterable[App], digests: Iterable[bytes] = ()) -> ProtectedSecrets:
        """Every name and value that tokens of these apps come from.

        `digests` are those of the resolved values (`RegisteredApp.token_digests`, and `digest` of each resolved
        `apiToken`); the ones written in the resources are found here.
        """
        names: set[str] = set()
        found = set(digests)
        for app in apps:
            sources: list[TokenSource | MetadataItem] = list(app.tokens)
            if app.channel and app.channel.api_token:
                sources.append(app.channel.api_token)
            for source in sources:
                names.add(source.env_ref)
                if source.secret_key_ref:
                    names.add(source.secret_key_ref.name)
                if isinstance(source, TokenSource):
                    if source.sha256:
                        found.add(bytes.fromhex(source.sha256))
                elif source.value:
                    found.add(digest(source.value))
        return cls(names, found)

    def name_protected(self, names: Iterable[str]) -> bool:
        """Whether one of these names, under which a store's source knows a secret, is that of a token."""
        return bool(self.names) and any(_canonical(name) in self.names for name in names)

    def value_protected(self, values: Iterable[str]) -> bool:
        """Whether one of these values of a secret is a token, also with space or a line end around it."""
        return bool(self._digests) and any(
            digest(value) in self._digests or digest(value.strip()) in self._digests for value in values
        )


def digest(value: str) -> bytes:
    """SHA-256 of a secret value's bytes. An environment variable may hold bytes that are not UTF-8."""
    try:
        data = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte, as JSON can write it
        data = value.encode("utf-8", "surrogatepass")
    return sha256(data).digest()


class _Scope:
    __slots__ = ("_allowed", "_default", "_denied")

    def __init__(self, scope: SecretScope) -> None:
        self._allowed = frozenset(scope.allowed_secrets)
        self._denied = frozenset(scope.denied_secrets)
        self._default = scope.default_allow

    def allows(self, name: str) -> bool:
        if self._allowed:
            return name in self._allowed
        return name not in self._denied and self._default


def _by_store(scopes: tuple[SecretScope, ...], origin: Origin, resource: str) -> dict[str, SecretScope]:
    found: dict[str, SecretScope] = {}
    for index, scope in enumerate(scopes):
        if scope.store_name in found:
            field = f"spec.secrets.scopes[{index}].storeName"
            raise SecurityConfigurationError(
                origin, resource, field, f"a second scope for the store {scope.store_name!r}; merge the two"
            )
        found[scope.store_name] = scope
    return found


def _canonical(name: str) -> str:
    """One form for all spellings that some source might take for the same name; refusing too many is safe here."""
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
    return name.strip().casefold()
