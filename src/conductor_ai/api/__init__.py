"""The HTTP API. `uvicorn conductor_ai.api:app` serves it; `create_app` makes one for tests and for `conductor serve`.

Importing this opens and reads nothing: `app` is made when somebody first asks for it, and what it needs is opened when
its server starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

    from conductor_ai.api.application import create_app as create_app

    app: FastAPI

__all__ = ["app", "create_app"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from conductor_ai.api.application import create_app

    value = create_app() if name == "app" else create_app
    globals()[name] = value
    return value
