"""Opening what keys and orgs are managed with: no model, no key of a provider, no plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from conductor_ai.wiring.service import Administration

OrgOption = Annotated[str, typer.Option("--org", metavar="ORG", help="The org.")]
OrgArgument = Annotated[str, typer.Argument(metavar="[ORG]", help="The org.")]


@asynccontextmanager
async def administration() -> AsyncIterator[Administration]:
    """Keys and orgs of the database that the settings name, which is made where there is none."""
    from conductor_ai.observability.logging import clean_last_resort
    from conductor_ai.observability.redaction import Redactor
    from conductor_ai.settings import Settings
    from conductor_ai.wiring.service import open_administration

    settings = Settings.load()
    clean_last_resort(Redactor(settings.secrets()))
    async with open_administration(settings) as opened:
        yield opened
