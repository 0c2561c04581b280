"""The check of arguments; it lives in the SDK, where plugin authors test with it."""

from conductor_ai.sdk.arguments import ArgumentValidator

__all__ = ["ArgumentValidator"]
