"""The registry of apps: which apps this instance serves, and which of them a request proves.

Step 2 of the request road. The registry is replaced as a whole, never edited, so that a request in flight keeps the
app that it proved. Tokens are found by their SHA-256 in a dict, never by a scan.
"""

from __future__ import annotations

from hashlib import sha256
from time import time
from typing import TYPE_CHECKING

from dapr_shared.core import errors
from dapr_shared.identity.account_apps import AccountApps, ServiceAccount
from dapr_shared.identity.caller import Caller, Evidence, ListenerIdentity, OperatorIdentity, RegisteredApp
from dapr_shared.identity.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.account_apps import AccountConflict
    from dapr_shared.identity.addresses import AddressIdentity
    from dapr_shared.identity.service_accounts import Proof, ReviewNeededError, ServiceAccounts
    from dapr_shared.wire.tls import PeerCertificate


class IdentityConfigurationError(Exception):
    """Apps that cannot be told apart; the message names both."""


class AppRegistry:
    """The apps of one instance.

    In single-app mode, which is chosen at start and never by counting, every request is that app's, provided that it
    carries the instance's API token where one is set. Otherwise a request must prove its app.
    """

    def __init__(
        self,
        *,
        single: RegisteredApp | None = None,
        api_token: str | None = None,
        service_accounts: ServiceAccounts | None = None,
        addresses: AddressIdentity | None = None,
    ) -> None:
        """`service_accounts`, `addresses`: without them a service account token, or an address, proves nothing."""
        self._service_accounts = service_accounts
        self._addresses = addresses
        self._accounts = AccountApps([single] if single else [])
        self._generation = 0
        """Counts what replaces the apps, so that callers made of service account tokens are made again."""
        self._single = Caller(single, (Evidence.SINGLE_APP,)) if single else None
        self._api_token_digest = _digest(api_token.encode()) if api_token else None
        self._apps: Mapping[AppRef, RegisteredApp] = {single.ref: single} if single else {}
        self._by_app_id: Mapping[str, Sequence[AppRef]] = _by_app_id(self._apps)
        self._by_token: Mapping[bytes, Caller] = {}
        self._by_listener: Mapping[AppRef, Caller] = {}
        self._by_both: Mapping[AppRef, Caller] = {}
        self._by_certificate: Mapping[tuple[str, str], Caller] = {}
        self._by_certificate_and_token: Mapping[AppRef, Caller] = {}

    @property
    def single(self) -> RegisteredApp | None:
        """The one app of an instance in single-app mode."""
        return self._single.record if self._single else None

    @property
    def account_conflicts(self) -> Sequence[AccountConflict]:
        """Service accounts that several apps claim."""
        return self._accounts.conflicts

    def apps(self) -> Iterable[RegisteredApp]:
        """All apps, in the order of their resources."""
        return self._apps.values()

    def get(self, ref: AppRef) -> RegisteredApp | None:
        """The app, if this instance serves it."""
        return self._apps.get(ref)

    def named(self, app_id: str) -> Sequence[AppRef]:
        """The apps of this id that this instance serves: one a namespace."""
        return self._by_app_id.get(app_id, ())

    def answered(self, ref: AppRef) -> Caller | None:
        """The caller that an answer of the app stands for, when the instance has called it at its own channel."""
        record = self.get(ref)
        return Caller(record, (Evidence.CHANNEL,)) if record is not None else None

    def replace(self, apps: Iterable[RegisteredApp]) -> None:
        """Serve exactly these apps from now on.

        Raises `IdentityConfigurationError` if two share a token or a certificate or are the same app; then nothing has changed. Not for
        single-app mode, which serves its app for as long as it runs.
        """
        if self._single:
            raise IdentityConfigurationError(
                "an instance in single-app mode serves the one app that it was started for"
            )
        records: dict[AppRef, RegisteredApp] = {}
        by_token: dict[bytes, Caller] = {}
        for record in apps:
            if record.ref in records:
                raise IdentityConfigurationError(f"app {record.ref} is defined twice")
            records[record.ref] = record
            caller = Caller(record, (Evidence.TOKEN,))
            for digest in record.token_digests:
                other = by_token.get(digest)
                if other is not None:
                    raise IdentityConfigurationError(
                        f"apps {other.ref} and {record.ref} have the same token; each app needs its own"
                    )
                by_token[digest] = caller
        by_certificate = _by_certificate(records.values())
        self._accounts = AccountApps(records.values())
        self._generation += 1
        self._apps = records
        self._by_app_id = _by_app_id(records)
        self._by_token = by_token
        self._by_certificate = by_certificate
        self._by_certificate_and_token = {
            ref: Caller(record, (Evidence.CERTIFICATE, Evidence.TOKEN)) for ref, record in records.items()
        }
        self._by_listener = {ref: Caller(record, (Evidence.LISTENER,)) for ref, record in records.items()}
        self._by_both = {ref: Caller(record, (Evidence.LISTENER, Evidence.TOKEN)) for ref, record in records.items()}

    def identify(self, tokens: Sequence[bytes], listener: object, certificate: PeerCertificate | None = None) -> Caller:
        """Who sent a request with these values of `dapr-api-token`, this listener and this client certificate.

        Raises `RefusedError`, and `ReviewNeededError` for a service account token that has to be verified first. An
        empty token is no token; several values are refused, as it is not clear which counts.
        A certificate that has expired since the handshake is refused; one that names no app proves nothing.
        """
        if isinstance(listener, OperatorIdentity):
            return self._of_operator(listener.app)
        if len(tokens) > 1:
            raise RefusedError("several_tokens", errors.TOO_MANY_TOKENS())
        token = tokens[0] if tokens else None
        if self._single is not None:
            return self._of_single(token, self._single)
        if certificate is not None:
            return self._with_certificate(certificate, token)
        owner = listener.app if isinstance(listener, ListenerIdentity) else None
        if not token:
            return self._of_listener(owner)
        digest = _digest(token)
        caller = self._by_token.get(digest)
        if caller is None:
            caller = self._of_service_account(token, digest)
        if owner is None:
            return caller
        if caller.ref != owner:
            raise RefusedError("evidence_disagrees", errors.EVIDENCE_DISAGREES())
        return self._by_both[owner] if caller.evidence == _TOKEN else _beside(Evidence.LISTENER, caller)

    def identify_by_address(self, refused: RefusedError, peer: str) -> Caller:
        """Who sent a request that brought no evidence at all, by the address of its connection. Raises `RefusedError`.

        `refused`: what `identify` has said. Where the address proves nothing either, that stands.
        """
        if self._addresses is None or refused.reason != "no_evidence":
            raise refused
        found = self._addresses.pod(peer)
        if found is None:
            raise refused
        try:
            caller = self._accounts.caller(found.account, found.pod, self._apps)
        except RefusedError as error:
            raise RefusedError(error.reason, refused.error) from None
        return Caller(caller.record, (Evidence.ADDRESS,))

    async def review(self, needed: ReviewNeededError, sender: str) -> None:
        """Have a token verified, for `identify` to be asked again. Raises `RefusedError` where nobody can do so now."""
        if self._service_accounts is not None:
            await self._service_accounts.review(needed, sender)

    def _of_service_account(self, token: bytes, digest: bytes) -> Caller:
        """Whom a token that no app has as its own proves. Raises `RefusedError` and `ReviewNeededError`."""
        proof = self._service_accounts.find(token, digest) if self._service_accounts is not None else None
        if proof is None:
            raise RefusedError("unknown_token", errors.UNKNOWN_TOKEN())
        return self._proved(proof)

    def _proved(self, proof: Proof) -> Caller:
        caller = proof.caller
        if caller is None or proof.generation != self._generation:
            account = ServiceAccount(proof.claims.namespace, proof.claims.service_account)
            caller = proof.caller = self._accounts.caller(account, proof.pod, self._apps)
            proof.generation = self._generation
        return caller

    def _of_listener(self, owner: AppRef | None) -> Caller:
        if owner is None:
            raise RefusedError("no_evidence", errors.NO_EVIDENCE())
        caller = self._by_listener.get(owner)
        if caller is None:  # removed while its listener closes
            raise RefusedError("app_removed", errors.NO_EVIDENCE())
        return caller

    def _of_single(self, token: bytes | None, single: Caller) -> Caller:
        if self._api_token_digest is None:
            return single
        if not token:
            raise RefusedError("no_api_token", errors.INVALID_API_TOKEN(info=_HTTP_401))
        digest = _digest(token)
        if digest == self._api_token_digest:
            return single
        proof = self._service_accounts.find(token, digest) if self._service_accounts is not None else None
        if proof is None:
            raise RefusedError("wrong_api_token", errors.INVALID_API_TOKEN(info=_HTTP_401))
        return _beside(Evidence.SINGLE_APP, self._proved(proof))

    def _of_operator(self, ref: AppRef) -> Caller:
        """The app that the operator acts as: nothing but the socket proves it, in single-app mode too."""
        record = self._apps.get(ref)
        if record is None:
            raise RefusedError("app_removed", errors.NO_EVIDENCE())
        return Caller(record, (Evidence.OPERATOR,))

    def _with_certificate(self, certificate: PeerCertificate, token: bytes | None) -> Caller:
        """The listeners of apps speak no TLS, so there is no third piece of evidence."""
        if certificate.not_after < time():
            raise RefusedError("certificate_expired", errors.CERTIFICATE_EXPIRED())
        named = {
            caller.ref: caller
            for key in (
                ("sha256", certificate.fingerprint),
                *(("uri", uri) for uri in certificate.uris),
                *(("dns", name) for name in certificate.dns_names),
            )
            if (caller := self._by_certificate.get(key)) is not None
        }
        if len(named) > 1:
            raise RefusedError("evidence_disagrees", errors.EVIDENCE_DISAGREES())
        by_certificate = next(iter(named.values()), None)
        if not token:
            if by_certificate is None:
                raise RefusedError("unknown_certificate", errors.UNKNOWN_CERTIFICATE())
            return by_certificate
        digest = _digest(token)
        by_token = self._by_token.get(digest)
        if by_token is None:
            by_token = self._of_service_account(token, digest)
        if by_certificate is None:
            return by_token
        if by_certificate.ref != by_token.ref:
            raise RefusedError("evidence_disagrees", errors.EVIDENCE_DISAGREES())
        if by_token.evidence == _TOKEN:
            return self._by_certificate_and_token[by_token.ref]
        return _beside(Evidence.CERTIFICATE, by_token)


_HTTP_401 = {"http.code": "401", "http.error_message": "invalid api token"}
"""What daprd's gRPC refusal carries (reference grpc-api §1.3)."""


_TOKEN = (Evidence.TOKEN,)


def _beside(evidence: Evidence, caller: Caller) -> Caller:
    """The same app, with one more piece of evidence."""
    return Caller(caller.record, (evidence, *caller.evidence))


def _by_app_id(refs: Iterable[AppRef]) -> Mapping[str, Sequence[AppRef]]:
    found: dict[str, list[AppRef]] = {}
    for ref in refs:
        found.setdefault(ref.app_id, []).append(ref)
    return found


def _by_certificate(records: Iterable[RegisteredApp]) -> dict[tuple[str, str], Caller]:
    """By what a certificate says: a name of one kind never stands for one of another."""
    found: dict[tuple[str, str], Caller] = {}
    for record in records:
        caller = Caller(record, (Evidence.CERTIFICATE,))
        for name in record.app.certificates:
            kind = "uri" if name.spiffe_id else "dns" if name.dns_name else "sha256"
            other = found.setdefault((kind, str(name)), caller)
            if other is not caller:
                raise IdentityConfigurationError(
                    f"apps {other.ref} and {record.ref} both claim the certificate {name}; each app needs its own"
                )
    return found


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()
