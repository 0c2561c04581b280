"""The client of the HTTP API; `conductor_ai.sdk.ConductorClient` is the same class."""

from conductor_ai.client.administration import (
    RemoteAuditRow,
    RemoteDefinition,
    RemoteHealth,
    RemoteModel,
    RemoteUsage,
)
from conductor_ai.client.client import ConductorClient
from conductor_ai.client.results import RemoteApproval, RemoteSession, StreamItem

__all__ = [
    "ConductorClient",
    "RemoteApproval",
    "RemoteAuditRow",
    "RemoteDefinition",
    "RemoteHealth",
    "RemoteModel",
    "RemoteSession",
    "RemoteUsage",
    "StreamItem",
]
