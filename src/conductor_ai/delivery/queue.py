"""Messages that wait until their session does not run any more."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from conductor_ai.agents.profile import require_vision
from conductor_ai.agents.session_state import message_added
from conductor_ai.conductor import Conductor
from conductor_ai.errors import InvalidInput
from conductor_ai.observability.redaction import Redactor
from conductor_ai.schemas import json_text
from conductor_ai.schemas.ids import new_id, utc_now
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.messages import Message, Role, parse_messages
from conductor_ai.schemas.session import SessionRecord, SessionStatus
from conductor_ai.storage.base import QueuedMessage

_logger = logging.getLogger(__name__)


def queued_message(
    message: Mapping[str, Any], record: SessionRecord, conductor: Conductor, redactor: Redactor, *, by: str
) -> QueuedMessage:
    """A caller's message as it waits, free of secrets. What would be refused when it is delivered is refused now.

    Raises: UnknownModel; InvalidInput, also for an image that is named by its URL, which may show something else by
        then.
    """
    _, [parsed] = parse_messages([message])
    if any(not image.is_fetched for image in parsed.images):
        raise InvalidInput("a message that waits holds its images; it cannot name them by URL", hint="send their data")
    if parsed.images:
        require_vision(conductor.model(record.model), [parsed])
    payload = redactor.clean_json(json_text.dumps({**message_added(parsed), "by": by}))
    return QueuedMessage(new_id(), record.session_id, record.org_id, payload, utc_now())


async def deliver_next(conductor: Conductor, queued: QueuedMessage) -> bool:
    """Let a session go on with a message that waited for it. Returns: whether it runs now, claimed by this process.

    One that does not fit the session any more is discarded, and no other. Raises: as `Conductor.add_message`.
    """
    payload = json_text.loads(queued.payload)
    images = tuple(Image.of_payload(image) for image in payload.get("images", ()))
    try:
        session = await conductor.add_message(
            queued.session_id,
            Message(Role.USER, payload["content"], images=images),
            org_id=queued.org_id,
            by=payload.get("by"),
            delivered=(queued.message_id,),
        )
    except InvalidInput as exc:
        # It fitted the session when it was queued: another model has taken over since then.
        _logger.error(
            "session %s cannot take a message that waited for it, which is discarded: %s", queued.session_id, exc
        )
        await conductor.discard_messages(
            queued.session_id, reason=str(exc), message_id=queued.message_id, org_id=queued.org_id, by="conductor"
        )
        return False
    return session.status is SessionStatus.RUNNING
