"""Every exception conductor-ai raises, drawn as one tree.

    ConductorError
    ├── UsageError            the caller asked for something that cannot be: mend the request
    │   ├── UnknownModel, ModelForbidden, MissingKey, UnpricedModel
    │   ├── UnknownTool, MissingExtra, ToolUnavailable
    │   └── InvalidInput
    ├── ProviderError         the model's service did not give an answer
    │   ├── KeyRefused, OutOfCredit
    │   ├── RequestRefused    ── PromptTooLong, SignatureRefused
    │   ├── RateLimited, ProviderTimeout
    │   ├── ProviderUnavailable    ── ModelLoading
    │   ├── MalformedReply, TruncatedReply
    │   └── AnswerRefused, AnswerCut, AnswerInvalid
    ├── SessionError
    │   ├── SessionNotFound, FileNotStored, SessionBusy, OwnershipLost, CancelRequested
    │   ├── InvalidTransition
    │   └── IdempotencyKeyUsed ── IdempotencyConflict
    ├── AccessError           the caller may not do this here
    │   ├── Unauthorized
    │   └── Forbidden
    ├── KeyNotFound
    ├── LimitReached          an org has used up what its operator allows
    │   ├── TooManyRequests, TooManySessions
    │   └── BudgetSpent
    ├── ClientError           a conductor server gave its client no answer that it can use
    │   ├── ServiceUnavailable    it is away, or too busy
    │   └── ServiceError          it answered with what this client does not know
    ├── ApprovalError
    │   ├── ApprovalNotFound, ApprovalAlreadyDecided, ApprovalVoid
    │   └── ApprovalRequired, ApprovalRefused
    ├── StorageError
    │   └── StoreUnavailable, StoreCorrupt, MigrationError
    ├── PluginError
    │   └── DuplicateTool, InvalidTool
    ├── AuditUnavailable
    ├── ReplayDiffers
    └── SSRFError             an address that must not be connected to

A class exists because somebody reacts to it differently. `code` is part of the HTTP and JSON contract and never changes
once released. `retryable` promises that the same call, unchanged, may succeed later. `resumable` says that a session
which failed with it may be resumed, at once or after a person has mended the cause. `hint` is one line on what to do.
"""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar


class ConductorError(Exception):
    """Root of the tree. `str(error)` is one line for a person; facts are attributes."""

    code: ClassVar[str] = "error"
    retryable: bool = False
    resumable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(ConductorError):
    code = "usage"


class InvalidInput(UsageError):
    code = "invalid_input"


class UnknownModel(UsageError):
    code = "unknown_model"


class ModelForbidden(UsageError):
    """The model is refused as a matter of policy: OpenAI models, or the demo model in production."""

    code = "model_forbidden"


class MissingKey(UsageError):
    code = "missing_key"


class UnpricedModel(UsageError):
    """A money limit was set on a model without a known price."""

    code = "unpriced_model"


class UnknownTool(UsageError):
    code = "unknown_tool"


class UnknownAgent(UsageError):
    code = "unknown_agent"


class MissingExtra(UsageError):
    """A feature needs an optional dependency; the hint is the exact install command."""

    code = "missing_extra"


class ToolUnavailable(UsageError):
    """A tool of ours cannot work on this machine; the hint is the line that mends it."""

    code = "tool_unavailable"


class ProviderError(ConductorError):
    """The model's service gave no answer.

    `retry_after_s` is the wait that the service asked for, None where it named none. `answering`: a part of an answer
    had come, so that the next attempt would be another answer, billed once more. `sent` is False where the request
    never left this process. `retryable` overrides what the class says, where the service itself has said that a further
    attempt is no use. `billed_cost_usd` is what the service says that the failed answer costs, None where it does not.
    """

    code = "provider_error"
    answering: bool = False

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        model: str,
        status: int | None = None,
        request_id: str | None = None,
        hint: str | None = None,
        retry_after_s: float | None = None,
        answering: bool | None = None,
        sent: bool = True,
        retryable: bool | None = None,
        billed_cost_usd: Decimal | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.sent = sent
        self.provider = provider
        self.model = model
        self.status = status
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.billed_cost_usd = billed_cost_usd
        if answering is not None:
            self.answering = answering
        if retryable is not None:
            self.retryable = retryable

    @property
    def may_be_billed(self) -> bool:
        """Whether the call that failed may cost something: a refusal does not, an answer that was lost may."""
        return self.sent and (self.answering or self.status in (None, 200))


class KeyRefused(ProviderError):
    code = "key_refused"
    resumable = True


class OutOfCredit(ProviderError):
    """The account's money, or the limit that somebody set on spending it, is used up. A person has to act."""

    code = "out_of_credit"
    resumable = True


class RequestRefused(ProviderError):
    """The provider understood the request and refuses it; the same request will be refused again."""

    code = "request_refused"


class PromptTooLong(RequestRefused):
    """The conversation does not fit this model's context window; it may fit another's."""

    code = "prompt_too_long"


class SignatureRefused(RequestRefused):
    """What the model signed in an earlier turn does not hold any more, since something before that turn has changed."""

    code = "signature_refused"


class RateLimited(ProviderError):
    """Too many requests or tokens in a minute or, not retryable then, in a day."""

    code = "rate_limited"
    retryable = True
    resumable = True


class ProviderUnavailable(ProviderError):
    """Connection refused or reset, overload, or a 5xx."""

    code = "provider_unavailable"
    retryable = True
    resumable = True


class ModelLoading(ProviderUnavailable):
    """The server is there and reads the model into memory; only time is needed."""

    code = "model_loading"


class ProviderTimeout(ProviderError):
    code = "provider_timeout"
    retryable = True
    resumable = True


class MalformedReply(ProviderError):
    """The reply lacks a field we need, or is not what the wire promises."""

    code = "malformed_reply"
    retryable = True
    resumable = True
    answering = True


class TruncatedReply(ProviderError):
    """The reply ended before its terminal mark. A cut reply is never an answer."""

    code = "truncated_reply"
    retryable = True
    resumable = True
    answering = True


class AnswerRefused(ProviderError):
    """The model or its provider declined to answer."""

    code = "answer_refused"


class AnswerCut(ProviderError):
    """The answer reached its token limit before its end; what came is in the log, but it is not an answer."""

    code = "answer_cut"


class AnswerInvalid(ProviderError):
    """The answer does not fit the schema that was asked for, nor did the one before it, which the model was told."""

    code = "answer_invalid"


class SessionError(ConductorError):
    code = "session_error"


class SessionNotFound(SessionError):
    code = "session_not_found"


class FileNotStored(SessionError):
    """The session has no file of that name."""

    code = "file_not_found"


class SessionBusy(SessionError):
    """Another live process drives the session."""

    code = "session_busy"
    retryable = True

    def __init__(self, message: str, *, pid: int | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.pid = pid


class OwnershipLost(SessionError):
    """Somebody else took the session over; this writer must leave quietly and write nothing more."""

    code = "ownership_lost"


class CancelRequested(SessionError):
    """Somebody was told that the session is being cancelled, so it cannot end otherwise; nothing was stored."""

    code = "cancel_requested"


class InvalidTransition(SessionError):
    code = "invalid_transition"


class IdempotencyKeyUsed(SessionError):
    """The org has used this idempotency key before; `session_id` and `request_hash` say for what."""

    code = "idempotency_key_used"

    def __init__(self, message: str, *, session_id: str, request_hash: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.session_id = session_id
        self.request_hash = request_hash


class IdempotencyConflict(IdempotencyKeyUsed):
    """The key was used for another request than this one."""

    code = "idempotency_conflict"


class AccessError(ConductorError):
    code = "access_error"


class Unauthorized(AccessError):
    """No key, or none that is valid. It never says which of the two, nor why."""

    code = "unauthorized"


class Forbidden(AccessError):
    """The key is valid, but not for this: its scopes, its org, or where the request came from."""

    code = "forbidden"


class KeyNotFound(ConductorError):
    code = "key_not_found"


class LimitReached(ConductorError):
    """`retry_after_s`: when the same request may succeed, as far as that is known."""

    code = "limit_reached"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class TooManyRequests(LimitReached):
    code = "too_many_requests"


class TooManySessions(LimitReached):
    code = "too_many_sessions"


class BudgetSpent(LimitReached):
    """The org's money for the day or the month is spent or reserved."""

    code = "budget_spent"


class ClientError(ConductorError):
    """A conductor server gave its client no answer. `status` is None where no reply came; by `request_id` the server's
    log knows the request."""

    code = "client_error"

    def __init__(
        self, message: str, *, status: int | None = None, request_id: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.request_id = request_id


class ServiceUnavailable(ClientError):
    """The server cannot be reached, is too busy, or went away before it had answered."""

    code = "service_unavailable"
    retryable = True


class ServiceError(ClientError):
    """A failure of the server's own, or an answer that is not in its API as this client knows it."""

    code = "service_error"


class ApprovalError(ConductorError):
    code = "approval_error"


class ApprovalNotFound(ApprovalError):
    code = "approval_not_found"


class ApprovalAlreadyDecided(ApprovalError):
    code = "approval_already_decided"


class ApprovalVoid(ApprovalError):
    """The arguments are no longer the ones that the approval was asked for."""

    code = "approval_void"


class ApprovalRequired(ApprovalError):
    """Nobody has approved this yet, so it did not run."""

    code = "approval_required"


class ApprovalRefused(ApprovalError):
    """A person said no, so it did not run."""

    code = "approval_refused"


class StorageError(ConductorError):
    code = "storage_error"
    resumable = True


class StoreUnavailable(StorageError):
    code = "store_unavailable"
    retryable = True


class StoreCorrupt(StorageError):
    code = "store_corrupt"


class MigrationError(StorageError):
    code = "migration_error"


class PluginError(ConductorError):
    code = "plugin_error"


class DuplicateTool(PluginError):
    code = "duplicate_tool"


class InvalidTool(PluginError):
    code = "invalid_tool"


class AuditUnavailable(ConductorError):
    """An action could not be recorded, so it did not happen."""

    code = "audit_unavailable"


class ReplayDiffers(ConductorError):
    """A replay went another way than the recording; the message says where first."""

    code = "replay_differs"


class SSRFError(ConductorError):
    """A URL or an address that this process must not connect to; the message begins with `refused:` and says why."""

    code = "ssrf_refused"

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"refused: {reason}", hint=hint)
