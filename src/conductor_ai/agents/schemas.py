"""The vocabulary of a session, where PLANNING.md promises it."""

from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.messages import Message, Role, ToolCall
from conductor_ai.schemas.session import PauseReason, SessionStatus
from conductor_ai.schemas.steps import AgentStep, StepToolCall, StepType

__all__ = [
    "AgentSession",
    "AgentStep",
    "Limits",
    "Message",
    "PauseReason",
    "Role",
    "SessionStatus",
    "StepToolCall",
    "StepType",
    "ToolCall",
]
