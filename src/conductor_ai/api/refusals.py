"""What HTTP itself can get wrong: refusals that no call of ours could answer with."""

from __future__ import annotations

from typing import Any, ClassVar

from conductor_ai.errors import ConductorError


class HTTPRefusal(ConductorError):
    """A request that never came to a call. `status` is that of its answer."""

    code = "http_refusal"
    status: ClassVar[int] = 400


class MalformedHead(HTTPRefusal):
    code = "malformed_request"


class CutOff(MalformedHead):
    """The connection ended before the body did: what had come of it is not all that was meant."""


class InvalidJSON(HTTPRefusal):
    code = "invalid_json"


class JSONTooDeep(HTTPRefusal):
    code = "json_too_deep"


class BodyTooLarge(HTTPRefusal):
    code = "body_too_large"
    status = 413


class NotJSON(HTTPRefusal):
    code = "unsupported_media_type"
    status = 415


class Misdirected(HTTPRefusal):
    """The request names a host that is not ours: a name of somebody's DNS may lead a browser to a local server."""

    code = "misdirected_request"
    status = 421


class OriginRefused(HTTPRefusal):
    code = "origin_refused"
    status = 403


class NoSuchRoute(HTTPRefusal):
    code = "not_found"
    status = 404


class MethodNotAllowed(HTTPRefusal):
    code = "method_not_allowed"
    status = 405


class InvalidRequest(HTTPRefusal):
    """Fields are missing, unknown or of the wrong kind; `errors` names each with what is wrong."""

    code = "invalid_input"
    status = 422

    def __init__(self, message: str, errors: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.errors = errors


class InternalError(HTTPRefusal):
    """A fault of ours. What it was stands in the log, under the request's id."""

    code = "internal_error"
    status = 500
