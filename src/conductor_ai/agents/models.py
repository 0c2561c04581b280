"""The models of a session: the one in use, and those that may take over where it fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple

from conductor_ai.errors import InvalidInput, ProviderError, RequestRefused, UsageError
from conductor_ai.model_catalog import ModelInfo
from conductor_ai.providers.base import Provider
from conductor_ai.providers.retries import may_fall_back


class ReadyModel(NamedTuple):
    """A model that can be called: `head` is its provider's encoding of what stays the same from call to call."""

    info: ModelInfo
    provider: Provider
    head: bytes


def check_order(model_ids: Sequence[str]) -> None:
    """Raises: InvalidInput unless there is one model, or several different ones."""
    if not model_ids:
        raise InvalidInput("no model is named: name one, or several in the order in which they may take over")
    twice = [model_id for model_id in model_ids if list(model_ids).count(model_id) > 1]
    if twice:
        raise InvalidInput(f"{twice[0]} is named twice: of several in the order in which they take over, each once")


def others_than(in_use: str, order: Sequence[str], find: Callable[[str], ModelInfo]) -> list[str]:
    """The models that may follow the one in use: those after it in the order, then those before it, which may be well
    again when a session is resumed. A successor stands in the place of the model that is gone.

    Args:
        find: Raises UsageError for a model that cannot be used now.
    """

    def stands_for(model_id: str) -> bool:
        try:
            return find(model_id).successor == in_use
        except UsageError:
            return False

    for place, model_id in enumerate(order):
        if model_id == in_use or stands_for(model_id):
            return [*order[place + 1 :], *order[:place]]
    return list(order)


class Lineup:
    """The models of one session, in order.

    Args:
        first: The model in use.
        others: Ids of those that may follow it.
        ready: Makes a model callable; None where that cannot be: no key, no price under a money limit.
    """

    def __init__(self, first: ReadyModel, others: Sequence[str], ready: Callable[[str], ReadyModel | None]) -> None:
        self.current = first
        self._others = deque(others)
        self._ready = ready
        self._tried = {first.info.id}

    def take_next(self, error: ProviderError) -> ReadyModel | None:
        """Go over to the model that follows after `error`; None where none may, or none is left.

        A model that its provider does not know any more gives way to its successor, listed or not.
        """
        gone = isinstance(error, RequestRefused) and error.status == HTTPStatus.NOT_FOUND
        if gone and self.current.info.successor is not None:
            self._others.appendleft(self.current.info.successor)
        elif not may_fall_back(error):
            return None
        while self._others:
            model_id = self._others.popleft()
            if model_id in self._tried:
                continue
            self._tried.add(model_id)
            found = self._ready(model_id)
            if found is not None:
                self.current = found
                return found
        return None
