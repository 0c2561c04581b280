"""The `conductor` command."""

from conductor_ai.cli.entry import main

__all__ = ["main"]
