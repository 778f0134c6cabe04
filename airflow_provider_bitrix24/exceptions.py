"""What can go wrong, one class per decision a person would take.

::

    Bitrix24Error
    ├── Bitrix24ConfigError          the connection or the arguments are wrong; the portal executed nothing       final
    │   └── Bitrix24ConnectionNotFound  Airflow has no such connection, or cannot get it now                      retry
    ├── Bitrix24NotSent              certainly not executed: no connection, TLS, proxy, or deadline passed        retry
    ├── Bitrix24NoAnswer             a read got no usable response; nothing was at stake                          retry
    ├── Bitrix24OutcomeUnknown       a write may have been executed: look at the portal, never send again blindly final
    ├── Bitrix24ApiError             the portal refused; a write was certainly not executed                       final
    │   ├── Bitrix24AuthError        the webhook or application is unknown, expired or blocked                    final
    │   │   └── Bitrix24SignInNeeded  the application's tokens are invalid: somebody has to sign in again         final
    │   ├── Bitrix24PermissionError  a scope, a right or the portal's plan forbids it                             final
    │   ├── Bitrix24NotFound         the object that was asked for does not exist                                 final
    │   ├── Bitrix24InvalidRequest   the portal does not accept these parameters, or does not know the method     final
    │   ├── Bitrix24RateLimited      too many requests, or too much working time; says when to come back          retry
    │   ├── Bitrix24Overloaded       blocked by Bitrix24 by hand; only their support can lift it                  final
    │   └── Bitrix24ServerError      the portal has an error of its own; nothing was written                      retry
    ├── Bitrix24TokenError           no new access token now; what needed it was not executed                     retry
    ├── Bitrix24StoreError           the database of the journal or of the tokens cannot be used now              retry
    ├── PaymentInProgress            another task or attempt is at work on the same key                           retry
    ├── PaymentUnresolved            something was sent, and the portal cannot be read now; the next attempt does retry
    ├── PaymentRefused               not sent by us: what the portal showed forbids it                            final
    ├── PaymentNotApplied            the portal responded, but does not show the payment                          final
    ├── PaymentAmbiguous             several payments may be this key's, or none is proved                        final
    ├── PaymentMismatch              amount, currency or parameters differ from what was expected                 final
    ├── PaymentNotStarted            an item of a list was not reached; nothing was sent for it                    retry
    ├── PaymentListFailed            items of a list have failed, and repeating the task cannot help              final
    └── PaymentListUnfinished        items of a list are not done yet; the next attempt goes on with them         retry

Every class survives pickling, and none holds a URL, a response object or a secret.
"""

from __future__ import annotations

import copy
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Self, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime

TlsTrouble: TypeAlias = Literal["certificate", "handshake"]
"""Why TLS ended a connection: the certificate is not trusted, or the two sides did not agree."""
TOO_MANY_REQUESTS: Final = "QUERY_LIMIT_EXCEEDED"
TOO_MUCH_TIME: Final = "OPERATION_TIME_LIMIT"


class Denial(Enum):
    """What was not done: the part of an error's message that an attempt before may make untrue."""

    NOT_SENT = "Nothing was sent."
    NOT_EXECUTED = "The call was not executed."
    NOT_BEGUN = "This attempt read and sent nothing."


NOT_SENT: Final = Denial.NOT_SENT


def tls_advice(trouble: TlsTrouble | None, extra: str) -> str:
    """Say what to do about an untrusted certificate or a failed TLS handshake; empty for other obstacles.

    :param extra: the connection's extra that names trusted certificates.
    """
    if trouble == "certificate":
        return (
            f"If the certificate is self-signed or comes from a private authority, set the connection's extra {extra} "
            "to the file of that authority's certificate, as the workers and the triggerer see it."
        )
    if trouble == "handshake":
        return "Does the server speak https at this port? Check schema and port of the connection."
    return ""


class Bitrix24Error(Exception):
    """The root of everything this provider raises on its own account.

    :param parts: the message: what happened, in one sentence; then what was not done, as a :class:`Denial`; then what
        to do. Subclasses that know more take their facts instead, and make the message of them.
    """

    final: ClassVar[bool] = True
    """Whether repeating the task cannot help, so that Airflow must not retry it."""
    code: ClassVar[str] = "bitrix24.error"
    """What went wrong, for code that reads errors: stable, listed in the documentation."""
    candidates: tuple[int, ...] = ()
    """Ids of the payments that may be the task's."""
    sent: Literal["no", "unknown", "yes"] = "unknown"
    """Whether the task has changed something on the portal, in this attempt or an earlier one: certainly not, perhaps,
    or the portal has confirmed it."""

    known: str | None = None
    """What earlier attempts have sent, as sentences; None if there was none, so that a denial holds for all."""
    sent_more: bool = False
    """Whether this attempt has sent something, beside what the error is about."""

    @property
    def is_time_limit(self) -> bool:
        """Whether the portal refuses a method because it has worked for too long in the last ten minutes."""
        return False

    @property
    def reason(self) -> str:
        """What stood in the way, short, for use inside a bigger sentence: no verdict, no advice, no full stop."""
        return str(self.args[0] if self.args else self).rstrip(".")

    @property
    def explanation(self) -> str:
        """The message without what it denies."""
        return " ".join(part for part in self.args if isinstance(part, str))

    def after(self, known: str, *, sent: bool = False) -> Self:
        """Return the same error for an attempt that may not be the first: it denies only what this one has sent.

        :param known: what is known of what was sent before, as sentences; may be empty.
        :param sent: whether this attempt has sent something itself.
        """
        if self.known is not None:
            return self
        told = copy.copy(self)
        told.known, told.sent_more = known, sent
        return told

    def denied(self, denial: Denial) -> str:
        """What was not done, and what was done all the same."""
        if self.known is None:
            return denial.value
        by_this_attempt = "Nothing more was sent." if self.sent_more else "Nothing was sent by this attempt."
        return f"{by_this_attempt if denial is NOT_SENT else denial.value} {self.known}".rstrip()

    def __str__(self) -> str:
        return " ".join(self.denied(part) if isinstance(part, Denial) else str(part) for part in self.args)


class Bitrix24ConfigError(Bitrix24Error):
    """The connection or the arguments are wrong; the portal executed nothing."""

    code = "config.invalid"


class Bitrix24ConnectionNotFound(Bitrix24ConfigError):
    """Airflow has no such connection, or cannot reach what keeps it: it says the same of both."""

    code = "config.connection_not_found"
    final = False


class Bitrix24NotSent(Bitrix24Error):
    """The request certainly did not reach the method.

    :param method: REST method.
    :param obstacle: what stood in the way, without addresses.
    :param deadline_passed: whether the request was held back because the time in which it might be sent had passed.
    :param place: where there was no connection to: scheme, host and port, and the Airflow connection; never a secret.
    :param tls: whether TLS ended the connection, and why.
    """

    code = "portal.not_sent"
    final = False
    halted: bool = False
    """Whether the portal stopped at an earlier command of the batch, which had failed."""

    def __init__(
        self,
        method: str,
        obstacle: str,
        deadline_passed: bool = False,
        place: str = "",
        tls: TlsTrouble | None = None,
    ) -> None:
        super().__init__(method, obstacle, deadline_passed, place, tls)
        self.method = method
        self.obstacle = obstacle
        self.deadline_passed = deadline_passed
        self.place = place
        self.tls = tls

    @property
    def reason(self) -> str:
        """What stood in the way."""
        if self.deadline_passed:
            return self.obstacle
        return f"cannot connect to {self.place}: {self.obstacle}" if self.place else f"no connection: {self.obstacle}"

    def __str__(self) -> str:
        if self.place and not self.deadline_passed:
            happened = (
                f"Cannot connect to {self.place}: {self.obstacle}. Nothing was sent by this call ({self.method})."
            )
            return " ".join(filter(None, (happened, self.known, tls_advice(self.tls, "ca_bundle"))))
        happened = f"{self.method} was not sent to Bitrix24 ({self.obstacle}). This call changed nothing on the portal."
        return " ".join(filter(None, (happened, self.known)))


class Bitrix24NoAnswer(Bitrix24Error):
    """A read got no usable response.

    :param method: REST method.
    :param instead: what came instead of a response.
    """

    code = "portal.no_answer"
    final = False

    def __init__(self, method: str, instead: str) -> None:
        super().__init__(method, instead)
        self.method = method
        self.instead = instead

    @property
    def reason(self) -> str:
        """What came instead of a response, and to what."""
        return f"{self.method}: no usable response, {self.instead}"

    def __str__(self) -> str:
        happened = f"Bitrix24 gave no usable response to {self.method} ({self.instead})."
        return " ".join(filter(None, (f"{happened} It only reads, so nothing was changed.", self.known)))


class Bitrix24OutcomeUnknown(Bitrix24Error):
    """A write may or may not have been executed.

    :param method: REST method.
    :param answered: True if this is the method's own reply, only unclear: the request has ended. False if the response
        is missing: the request may still be running.
    :param code: the portal's error code, if there was one; kept as ``portal_code``.
    :param text: the portal's words, or what came instead of a response.
    :param message: the whole message, where the caller can say more than this class.
    """

    code = "portal.outcome_unknown"

    def __init__(
        self,
        method: str,
        answered: bool = False,
        code: str | None = None,
        text: str | None = None,
        message: str | None = None,
    ) -> None:
        super().__init__(method, answered, code, text, message)
        self.method = method
        self.answered = answered
        self.portal_code = code
        self.text = text
        self.message = message

    @property
    def reason(self) -> str:
        """How the portal responded, if it did."""
        happened = "responded unclearly" if self.answered else "gave no usable response"
        return f"Bitrix24 {happened} to {self.method} ({self.words})"

    @property
    def words(self) -> str:
        """The portal's own code and words, or what came instead of them."""
        return (
            ", ".join(part for part in (self.portal_code and f"code {self.portal_code}", self.text) if part)
            or "no details"
        )

    def __str__(self) -> str:
        if self.message:
            return self.message
        return (
            f"{self.reason}. It may have been executed: look at the object on the portal before anything is sent again."
        )


class Bitrix24ApiError(Bitrix24Error):
    """The portal refused; a write was certainly not executed.

    :param code: the portal's error code as text; may be ``"0"`` or empty; kept as ``portal_code``.
    :param status: HTTP status; inside a batch the status of the batch.
    :param method: REST method.
    :param description: the portal's words, in the portal's language; may be empty.
    """

    code = "portal.refused"
    advice: str = ""
    """What to do about it; ``{who}`` stands for `who`."""
    who: str = "webhook or application"
    """What the connection is, as far as the code that raises this knows it."""

    def __init__(self, code: str, status: int, method: str, description: str = "") -> None:
        super().__init__(code, status, method, description)
        self.portal_code = code
        self.status = status
        self.method = method
        self.description = description

    @property
    def reason(self) -> str:
        """The portal's own code and words."""
        return f"{self.method}: {self.portal_code or 'no code'} {self.description}".strip().rstrip(".")

    @property
    def _refusal(self) -> str:
        said = f"Bitrix24 refused {self.method} (code {self.portal_code!r}, HTTP {self.status})"
        said += f": {self.description}" if self.description else ""
        return said if said.endswith((".", "!", "?")) else f"{said}."

    def __str__(self) -> str:
        return " ".join(filter(None, (self._refusal, self.known, self.advice.replace("{who}", self.who))))


class Bitrix24AuthError(Bitrix24ApiError):
    """The portal does not accept the credentials.

    :param advice: what to do, where more is known than this class says.
    """

    code = "portal.authentication"
    advice = "Check the {who} in the Airflow connection: it may have been deleted, changed, expired or blocked."

    def __init__(self, code: str, status: int, method: str, description: str = "", advice: str = "") -> None:
        super().__init__(code, status, method, description)
        self.args = (code, status, method, description, advice)
        self.advice = advice or self.advice


class Bitrix24SignInNeeded(Bitrix24AuthError):
    """The application's tokens are not valid any more, or were never there; somebody has to sign in.

    :param advice: what happened to them as far as is known, and what to do.
    """

    code = "portal.sign_in_needed"
    advice = ""

    @property
    def reason(self) -> str:
        """The endpoint's own words, or ours if nobody was asked."""
        return super().reason if self.status else self.description

    def __str__(self) -> str:
        if self.status:
            return super().__str__()
        return f"{self.description}. {self.denied(NOT_SENT)} {self.advice}"


class Bitrix24PermissionError(Bitrix24ApiError):
    """A scope, a right or the portal's plan forbids the call.

    :param missing_scopes: scopes that the webhook or application lacks, as far as the portal's response tells.
    """

    code = "portal.permission"

    def __init__(
        self, code: str, status: int, method: str, description: str = "", missing_scopes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(code, status, method, description)
        self.args = (code, status, method, description, missing_scopes)
        self.missing_scopes = missing_scopes

    def __str__(self) -> str:
        if self.missing_scopes:
            scopes = ", ".join(self.missing_scopes)
            return f"{super().__str__()} The {self.who} lacks the scope {scopes}: add it in Bitrix24."
        return (
            f"{super().__str__()} The user of the {self.who} may lack the right to it, or the portal's plan does not "
            "include it; for someone who is no administrator a missing object looks the same."
        )


class Bitrix24NotFound(Bitrix24ApiError):
    """The object that was asked for does not exist."""

    code = "portal.not_found"
    advice = "It was deleted, the id is that of another kind of object, or the user of the {who} may not see it."


class Bitrix24InvalidRequest(Bitrix24ApiError):
    """The portal does not accept these parameters, or does not know the method."""

    code = "portal.invalid_request"
    advice = "Compare the method's name and parameters with its page on https://apidocs.bitrix24.com."


class Bitrix24RateLimited(Bitrix24ApiError):
    """Too many requests, or too much working time of the method; nothing was executed.

    :param status: 0 if the portal was not asked, because the provider kept within its rate limit.
    :param retry_after: seconds until it makes sense to come back, if that is known.
    :param resets_at: the same as a point in time.
    """

    code = "portal.rate_limited"
    final = False

    def __init__(
        self,
        code: str,
        status: int,
        method: str,
        description: str = "",
        retry_after: float | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(code, status, method, description)
        self.args = (code, status, method, description, retry_after, resets_at)
        self.retry_after = retry_after
        self.resets_at = resets_at

    @property
    def reason(self) -> str:
        """The portal's own words, or those of the provider if the portal was not asked."""
        limit = "working-time limit" if self.is_time_limit else "rate limit"
        return super().reason if self.status else f"Not sent: the portal's {limit}"

    @property
    def is_time_limit(self) -> bool:
        """Whether it is the limit of the method's working time, and not that of the number of requests."""
        return self.portal_code.upper() != TOO_MANY_REQUESTS

    def __str__(self) -> str:
        if self.retry_after is not None:
            hint = f"Come back in {self.retry_after:.0f} s."
        else:
            hint = "Come back in some minutes; an Airflow pool limits the number of parallel tasks."
        said = self._refusal if self.status else self.description
        return f"{said} {self.denied(Denial.NOT_EXECUTED)} {hint}"


class Bitrix24Overloaded(Bitrix24ApiError):
    """Bitrix24 has blocked the portal's REST by hand."""

    code = "portal.overloaded"
    advice = "Bitrix24 has blocked these calls by hand; only Bitrix24's support can lift it."


class Bitrix24ServerError(Bitrix24ApiError):
    """The portal has an error of its own; the call was not executed, or only reads."""

    code = "portal.server_error"
    final = False


class Bitrix24TokenError(Bitrix24Error):
    """There is no new access token now; what needed it was not executed."""

    code = "token.unavailable"
    final = False


class Bitrix24StoreError(Bitrix24Error):
    """The database of the journal or of the tokens cannot be used now; what is known of the portal is said first.

    :param store: what messages call the database.
    :param trouble: what it said, without secrets.
    :param more: what was not done, and what to do.
    """

    code = "store.unavailable"
    final = False

    def __init__(self, store: str, trouble: str, *more: str | Denial) -> None:
        super().__init__(store, trouble, *more)
        self.store = store
        self.trouble = trouble

    @property
    def reason(self) -> str:
        """What stood in the way."""
        return f"{self.store} cannot be used now: {self.trouble}"

    def __str__(self) -> str:
        more = self.args[2:]
        said = f"{self.reason[:1].upper()}{self.reason[1:]}."
        if any(isinstance(part, Denial) for part in more):
            return " ".join([said, *(self.denied(part) if isinstance(part, Denial) else part for part in more)])
        return " ".join(filter(None, (self.known, said, *more)))


class PaymentInProgress(Bitrix24Error):
    """Another task or attempt is at work on the same key; this one sent nothing, or has been overtaken."""

    code = "payment.in_progress"
    final = False


class PaymentUnresolved(Bitrix24Error):
    """Something was sent, and the portal cannot be read now; the journal knows, and the next attempt reads first."""

    code = "payment.unresolved"
    final = False


class PaymentRefused(Bitrix24Error):
    """Not sent by us, because what the portal showed forbids it."""

    code = "payment.refused"


class PaymentNotApplied(Bitrix24Error):
    """The portal responded, but does not show the payment."""

    code = "payment.not_applied"


class PaymentAmbiguous(Bitrix24Error):
    """Several payments may be this key's, or none is proved to be.

    :param candidates: ids of the payments that may be this key's.
    """

    code = "payment.ambiguous"

    def __init__(self, *parts: str | Denial, candidates: tuple[int, ...] = ()) -> None:
        super().__init__(*parts)
        self.candidates = candidates


class PaymentMismatch(Bitrix24Error):
    """Amount, currency or parameters differ from what was expected."""

    code = "payment.mismatch"


class PaymentNotStarted(Bitrix24Error):
    """An item of a list that the task did not reach; only in the summary of the list, never raised."""

    code = "payment.not_started"
    final = False


class PaymentListFailed(Bitrix24Error):
    """Items of a list have failed; the others are done, and a retry would not change that."""

    code = "payment.list_failed"


class PaymentListUnfinished(Bitrix24Error):
    """Items of a list are not done yet, or cannot be read now; the next attempt goes on with them.

    :param retry_after: seconds until it makes sense to come back, if that is known.
    """

    code = "payment.list_unfinished"
    final = False

    def __init__(self, *parts: str | Denial, retry_after: float | None = None) -> None:
        super().__init__(*parts)
        self.retry_after = retry_after
