"""Runs code with bubblewrap: Linux namespaces, a system call filter, and an unprivileged user."""

from conductor_ai.tools.sandbox.bubblewrap.backend import BubblewrapBackend

__all__ = ["BubblewrapBackend"]
