"""What requests may hold. An unknown field is refused: nobody sets an org, an id or a status by naming it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)

from conductor_ai.conductor.requests import StartRequest
from conductor_ai.schemas.orgs import OrgLimits, Scope
from conductor_ai.schemas.parameters import MAX_TEMPERATURE, ReasoningEffort
from conductor_ai.schemas.usage import LEAST_USD, MOST_USD, bound_usd
from conductor_ai.sdk.base import MAX_TIMEOUT_S

_MOST = 10**15
_MOST_S = 3650 * 86_400.0
_LONGEST_ID = 200
# What `bound_usd` takes, written out.
_DOLLARS = r"^(1000000000(\.0{1,12})?|(?=0*[1-9]|0+\.[0-9]{0,8}[1-9])[0-9]{1,9}(\.[0-9]{1,12})?)$"


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def given(self) -> dict[str, Any]:
        """What the caller named, as plain data."""
        return self.model_dump(exclude_unset=True)


def _dollars(value: Any) -> Decimal:
    if isinstance(value, str) and re.fullmatch(_DOLLARS, value) is None:
        raise ValueError(f"must be from {LEAST_USD:f} to {MOST_USD} US dollars, written as 0.50")
    try:
        return bound_usd(value)
    except ValueError as exc:
        raise ValueError(f"must be {exc}") from None


Count = Annotated[int, Field(strict=True, gt=0, le=_MOST)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=_MOST_S, allow_inf_nan=False)]
Money = Annotated[
    Decimal,
    BeforeValidator(_dollars),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _DOLLARS, "examples": ["0.50"]},
                {"type": "number", "minimum": float(LEAST_USD), "maximum": MOST_USD},
            ],
            "description": "US dollars with at most 12 decimals; as text it is exact",
        }
    ),
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_ID, pattern=r"^[!-~]+$")]
ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
AgentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Note = Annotated[str, StringConstraints(max_length=2000)]


class TextPart(Body):
    type: Literal["text"]
    text: str


class ImageSource(Body):
    """The image as base64, or where it is."""

    type: Literal["base64", "url"] | None = None
    media_type: str | None = None
    data: str | None = None
    url: str | None = None


class ImagePart(Body):
    """An image: `data` as base64, or a `url`; PNG, JPEG, GIF or WebP."""

    type: Literal["image"]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    source: ImageSource | None = None


class ImageURL(Body):
    url: str
    detail: str | None = None


class ImageURLPart(Body):
    type: Literal["image_url"]
    image_url: ImageURL | str


Part = Annotated[TextPart | ImagePart | ImageURLPart, Discriminator("type")]


def _kind_of_content(value: Any) -> str:
    return "parts" if isinstance(value, list) else "text"


Content = Annotated[
    Annotated[str, WithJsonSchema({"type": "string", "minLength": 1}), Tag("text")]
    | Annotated[list[Part], Field(min_length=1, max_length=200), Tag("parts")],
    Discriminator(_kind_of_content),
]


class MessageBody(Body):
    """One message: text, or a list of parts."""

    role: Literal["system", "user", "assistant"]
    content: Content


class UserMessage(Body):
    role: Literal["user"] = "user"
    content: Content


class LimitsBody(Body):
    """What the session may spend before it pauses. What is left out is the agent's or the default; null is no bound."""

    max_steps: Count | None = None
    max_cost_usd: Money | None = None
    max_tokens: Count | None = None
    deadline_s: Seconds | None = None
    tool_timeout_s: Annotated[float, Field(strict=True, gt=0, le=MAX_TIMEOUT_S, allow_inf_nan=False)] = 60.0
    max_output_tokens: Count = 8192
    max_result_chars: Count = 50_000


class ParametersBody(Body):
    """How the model is asked to answer; null leaves it to the model."""

    temperature: Annotated[float, Field(strict=True, ge=0, le=MAX_TEMPERATURE)] | None = None
    reasoning_effort: ReasoningEffort | None = None


class RunBody(Body):
    """`agent` names an agent in a file on the server, which gives what is left open here."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"messages": [{"role": "user", "content": "Which dealers in California have the most cars in stock?"}]},
                {
                    "agent": "web-researcher",
                    "messages": [{"role": "user", "content": "What changed in HTTP semantics with RFC 9110?"}],
                    "limits": {"max_steps": 20, "max_cost_usd": "0.50"},
                    "metadata": {"ticket": "4711"},
                },
            ]
        }
    )

    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=2000)]
    agent: AgentName | None = None
    model: Name | None = Field(default=None, description="left out: the agent's, else the server's default")
    models: Annotated[list[Name], Field(max_length=10)] | None = Field(
        default=None, description="in place of `model`: each may take over from the one before it"
    )
    tools: Annotated[list[ToolName], Field(max_length=128)] | None = Field(
        default=None, description="left out: the agent's, else every tool of the server"
    )
    instructions: str | None = None
    limits: LimitsBody | None = None
    parameters: ParametersBody | None = None
    response_schema: dict[str, Any] | None = Field(
        default=None, description="JSON schema of an object that the answer has to fit"
    )
    metadata: Annotated[
        dict[
            Annotated[str, StringConstraints(min_length=1, max_length=64)],
            Annotated[str, StringConstraints(max_length=512)],
        ],
        Field(max_length=16),
    ] = Field(default_factory=dict, description="the caller's own; comes back with the session")

    def request(self) -> StartRequest:
        return StartRequest(
            messages=[message.given() for message in self.messages],
            agent=self.agent,
            model=self.model,
            models=tuple(self.models or ()),
            tools=self.tools,
            instructions=self.instructions,
            limits=None if self.limits is None else self.limits.given(),
            parameters=None if self.parameters is None else self.parameters.given(),
            response_schema=self.response_schema,
            metadata=self.metadata,
        )


class SendBody(Body):
    """Another message of the user: either `message`, or only its `content`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"content": "And in Nevada?"}, {"content": "Stop at ten.", "when_running": "enqueue"}],
            "oneOf": [{"required": ["message"]}, {"required": ["content"]}],
        }
    )

    message: UserMessage | None = None
    content: Content | None = None
    when_running: Literal["reject", "enqueue"] = Field(
        default="reject", description="`enqueue` keeps the message until the session does not run any more"
    )
    limits: LimitsBody | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> SendBody:
        if (self.message is None) == (self.content is None):
            raise ValueError("give either message or content")
        return self

    def to_message(self) -> dict[str, Any]:
        given = self.given()
        return {"role": "user", "content": given["message"]["content"] if self.message else given["content"]}


class ResumeBody(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"limits": {"max_steps": 100}}]})

    limits: LimitsBody | None = None


class DecisionBody(Body):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"decision": "approve"}, {"decision": "deny", "reason": "not to this address"}]}
    )

    decision: Literal["approve", "deny"]
    reason: Note | None = None


class OrgLimitsBody(Body):
    """What is left out stays as it is; null takes a limit away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"requests_per_minute": 600, "max_usd_per_day": "25"}]})

    requests_per_minute: Annotated[int, Field(strict=True, gt=0, le=10**9)] | None = None
    max_running_sessions: Annotated[int, Field(strict=True, gt=0, le=10**9)] | None = None
    max_usd_per_day: Money | None = None
    max_usd_per_month: Money | None = None
    retention_days: Annotated[int, Field(strict=True, gt=0, le=36_500)] | None = None


def _as_stored(value: Any) -> str:
    """A moment as rows hold it: ISO 8601, UTC, microseconds."""
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ValueError("must be a date and time in ISO 8601, such as 2026-11-23T08:00:00Z") from exc
    return moment.isoformat(timespec="microseconds")


Moment = Annotated[str, AfterValidator(_as_stored), WithJsonSchema({"type": "string", "format": "date-time"})]


class KeyBody(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "crm", "scopes": ["run", "read"]}]})

    scopes: Annotated[set[Scope], Field(min_length=1)]
    name: Annotated[str, StringConstraints(max_length=100)] = ""
    expires_at: Moment | None = None


assert set(OrgLimitsBody.model_fields) == set(OrgLimits.__dataclass_fields__), "one field for each limit"
