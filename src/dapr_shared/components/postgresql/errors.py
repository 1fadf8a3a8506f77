"""What went wrong with PostgreSQL, and what to do: asyncpg's errors become the contract's.

Last step of the request road. A message names server, database and user, never a password, a key or a value: those
that PostgreSQL quotes a value in are replaced.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import asyncpg

from dapr_shared.contracts.component import BackendError, BackendUnavailableError

if TYPE_CHECKING:
    from dapr_shared.components.postgresql.address import Address

_REMEDIES = {
    "28P01": "refused the password of user {user}: correct user and password",
    "28000": "refused user {user}: correct the user, or allow it in the server's pg_hba.conf ({message})",
    "3D000": "has no database {database}: create it, or correct the connection string",
    "25006": "is read-only (a standby, or default_transaction_read_only): connect to the primary, for example with "
    "several hosts and target_session_attrs=read-write",
    "53100": "cannot write: the disk is full",
    "53200": "is out of memory",
    "42501": "does not allow this to user {user}: {message}; grant it, or create the tables as another user",
    "54000": "refused the key or the value as too large ({message})",
    "22021": "cannot keep the character NUL in a key or in JSON text",
    "22P05": "cannot keep \\u0000 in JSON with version v1 of the component (a limit of jsonb): use version v2",
    "22P02": "refused the value: it is not of the form that is needed",
    "22003": "refused the value: a number in it is out of range",
    "42P01": "has no such table any more ({message})",
}
"""SQLSTATE → what it means here; the message of the server where it can hold no value of an app."""
_UNAVAILABLE = {
    "53300": "has no connection left for user {user}: raise its max_connections, or lower maxConns of the components",
    "57P01": "is shutting down",
    "57P02": "crashed and restarts",
    "57P03": "is starting up or shutting down",
    "57014": "cancelled the call: its statement_timeout is over, or an administrator ended it",
    "40001": "could not serialize the transaction with others: send it again",
    "40P01": "ended the transaction because it and another waited for each other: send it again",
    "55P03": "could not get a lock in time: send the call again",
}
_VALUE_CLASS = "22"
"""SQLSTATEs that begin so are about a value, which the server may quote."""
_CONNECTION_CLASS = "08"


def translate(error: BaseException, address: Address, timeout: float) -> BaseException:
    """The error to raise for one of asyncpg's or of the connection; others are given back as they are."""
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error, f"PostgreSQL at {address}", address)
    if isinstance(error, UnicodeError):
        return BackendError(f"PostgreSQL at {address} cannot take this text")
    subject = f"PostgreSQL at {address}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return BackendError(
            f"{subject} shows a certificate that is not accepted ({error.verify_message}): correct the host name, "
            "sslRootCert or sslmode"
        )
    if isinstance(error, ssl.SSLError):
        return BackendError(
            f"{subject} cannot be reached over TLS ({error.reason or 'handshake failed'}): compare sslmode, sslcert and "
            "sslkey with what the server asks for"
        )
    problem = _of_connection(error, subject, address, timeout)
    return error if problem is None else BackendUnavailableError(problem)


def _of_connection(error: BaseException, subject: str, address: Address, timeout: float) -> str | None:
    match error:
        case TimeoutError():
            text = f"{subject} gave no answer within {timeout:g} s; a write may still happen"
        case asyncpg.exceptions.TargetServerAttributeNotMatched():
            text = f"{subject}: no host is {address.session} (target_session_attrs)"
        case asyncpg.InterfaceError():
            text = f"the connection to {subject} was lost"
        case asyncpg.InternalClientError():
            text = f"the connection to {subject} failed: {type(error).__name__}"
        case OSError():
            text = f"{subject} cannot be reached: {error.strerror or first_line(error) or type(error).__name__}"
        case _:
            text = None
    return text


def _of_server(error: asyncpg.PostgresError, subject: str, address: Address) -> BackendError:
    state = str(getattr(error, "sqlstate", None) or "")
    fields = {"user": address.user, "database": address.database, "message": first_line(error)}
    if state in _UNAVAILABLE:
        return BackendUnavailableError(f"{subject} {_UNAVAILABLE[state].format(**fields)}")
    if state.startswith(_CONNECTION_CLASS):
        return BackendUnavailableError(f"the connection to {subject} was lost; a write may still have happened")
    if state in _REMEDIES:
        return BackendError(f"{subject} {_REMEDIES[state].format(**fields)}")
    if state.startswith(_VALUE_CLASS):
        return BackendError(f"{subject} refused a value (SQLSTATE {state})")
    return BackendError(f"{subject}: {first_line(error)} (SQLSTATE {state})")


def first_line(error: BaseException) -> str:
    """The server's message without its detail and hint, which may quote values."""
    return str(error).partition("\n")[0]
