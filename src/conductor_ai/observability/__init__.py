"""What an agent did, on record: `@audit_logged` for functions, `AuditLogger` and `AuditRecord` for everything else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conductor_ai.observability.audit import AuditLogger, AuditRecord
    from conductor_ai.observability.decorators import audit_logged

__all__ = ["AuditLogger", "AuditRecord", "audit_logged"]


def __getattr__(name: str) -> object:
    """Loads on first use: whoever needs one module of this package does not pay for the others."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "decorators" if name == "audit_logged" else "audit"
    return getattr(import_module(f"{__name__}.{module}"), name)
