"""The prompt of a session: its conversation as wire turns, each built once, and how old ones make room.

The log keeps everything. What leaves the prompt leaves it by an event, so that a resumed session shows its model what
the dead one showed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from conductor_ai.agents.replies import pointer
from conductor_ai.schemas.images import IMAGE_TOKENS_BOUND
from conductor_ai.schemas.messages import Message, Role, ToolReply

EncodeTurn = Callable[[Message], bytes]

# What a turn is, in one number: 0 stays for good (messages and answers), n is the model's turn of step n that asks for
# tools, -n are the replies of that step.
_STAYS = 0
# A turn that its provider paused: it takes the mark of the one that goes on with it.
_UNFINISHED = 10**9


class OldResults(NamedTuple):
    """The replies of one step that stand in the prompt in full. `saves` is the bytes that pointers would free."""

    step_no: int
    saves: int


class Prompt:
    """`encode_turn` is the provider's; None where nobody will call the model: then nothing is kept."""

    __slots__ = (
        "_encode_turn",
        "_image_bytes",
        "_left_out",
        "_marks",
        "_note_at",
        "_replies",
        "_steps_left_out",
        "billed_tokens",
        "known_tokens",
        "new_bytes",
        "size",
        "turns",
        "unbilled_bytes",
    )

    def __init__(self, encode_turn: EncodeTurn | None) -> None:
        self._encode_turn = encode_turn
        self._marks: list[int] = []
        self._replies: dict[int, tuple[ToolReply, ...]] = {}
        self._note_at: int | None = None
        self._steps_left_out = 0
        self._left_out = 0
        self._image_bytes = 0
        self.turns: list[bytes] = []
        self.size = 0
        """Bytes of all turns, of which images count as what they cost at most: the figures go by tokens per byte."""
        self.billed_tokens = 0
        """Tokens of the newest call, prompt and answer: what the next prompt can hold at most, but for what is new."""
        self.unbilled_bytes = 0
        """Bytes of turns that no billed call has held yet."""
        self.known_tokens = 0
        """Tokens of the prompt when they were last counted: by a bill, or by the estimate that trimmed it."""
        self.new_bytes = 0
        """Bytes of turns since then."""

    def say(self, message: Message, asked_in_step: int = _STAYS, *, unfinished: bool = False) -> None:
        """Add a turn. `asked_in_step`: the step whose tool calls the turn holds; such turns may be left out later, and
        with them the `unfinished` ones before, which the model goes on with in this one."""
        if message.role is Role.ASSISTANT:
            self._marks = [asked_in_step if mark == _UNFINISHED else mark for mark in self._marks]
        self._add(message, _UNFINISHED if unfinished else asked_in_step)

    def reply(self, step_no: int, replies: tuple[ToolReply, ...]) -> None:
        """Add the replies to all calls of a step."""
        if self._encode_turn is None:
            return
        self._add(Message(Role.TOOL, tool_replies=replies), -step_no)
        # Only what a pointer says of a result is kept of it.
        self._replies[step_no] = tuple(pointer(reply) for reply in replies)

    def bill(self, total_tokens: int) -> None:
        """A call was billed that held everything so far."""
        if total_tokens:
            self.billed_tokens = self.known_tokens = total_tokens
            self.unbilled_bytes = self.new_bytes = 0

    def forget_bills(self) -> None:
        """Another model will be called, which may count other tokens: none are known any more."""
        self.billed_tokens = self.known_tokens = 0
        self.unbilled_bytes = self.new_bytes = self.size

    def old_results(self) -> Iterator[OldResults]:
        """Oldest first, without those of the newest step that has any."""
        steps = list(self._replies)[:-1]
        sizes = {-mark: len(turn) for mark, turn in zip(self._marks, self.turns, strict=True) if mark < 0}
        for step_no in steps:
            stays = sum(len(reply.content) + _WIRE_BYTES for reply in self._replies[step_no])
            yield OldResults(step_no, max(0, sizes[step_no] - stays))

    def newest_results(self) -> int | None:
        """The newest step whose results stand in the prompt in full; None where none do."""
        return next(reversed(self._replies), None)

    def results_could_shrink(self) -> bool:
        """Whether pointers would be shorter than the results that stand in the prompt, in one step at least."""
        sizes = {-mark: len(turn) for mark, turn in zip(self._marks, self.turns, strict=True) if mark < 0}
        return any(
            sizes[step_no] > sum(len(reply.content) + _WIRE_BYTES for reply in replies)
            for step_no, replies in self._replies.items()
        )

    def old_steps(self) -> Iterator[OldResults]:
        """The steps that could be left out whole, oldest first; the newest with replies is not among them."""
        newest = max((-mark for mark in self._marks), default=0)
        sizes: dict[int, int] = {}
        for mark, turn in zip(self._marks, self.turns, strict=True):
            if mark not in (_STAYS, _UNFINISHED) and abs(mark) < newest:
                sizes[abs(mark)] = sizes.get(abs(mark), 0) + len(turn)
        return (OldResults(step_no, size) for step_no, size in sizes.items())

    def trim(self, results_through: int, steps_through: int, tokens_after: int) -> None:
        """Replace results of steps up to `results_through` by pointers, and all turns of steps up to `steps_through` by
        one note; messages and answers stay."""
        if self._encode_turn is None:
            return
        self._steps_left_out = max(self._steps_left_out, steps_through)
        turns: list[bytes] = []
        marks: list[int] = []
        note_at = None
        for position, (turn, mark) in enumerate(zip(self.turns, self._marks, strict=True)):
            step_no = abs(mark)
            if position == self._note_at or (mark != _STAYS and step_no <= steps_through):
                note_at = len(turns) if note_at is None else note_at
                self._left_out += mark > 0
                self._replies.pop(step_no, None)
                continue
            if mark < 0 and step_no <= results_through and step_no in self._replies:
                short = self._encode_turn(Message(Role.TOOL, tool_replies=self._replies.pop(step_no)))
                if len(short) < len(turn):
                    turn = short
                    self.unbilled_bytes += len(turn)
            turns.append(turn)
            marks.append(mark)
        self.turns, self._marks, self._note_at = turns, marks, note_at
        if note_at is not None:
            note = self._encode_turn(Message(Role.USER, _note(self._steps_left_out), left_out=self._left_out))
            turns.insert(note_at, note)
            marks.insert(note_at, _STAYS)
            self.unbilled_bytes += len(note)
        self.size = sum(map(len, turns)) - self._image_bytes  # in messages, which stay
        self.known_tokens, self.new_bytes = tokens_after, 0

    def _add(self, message: Message, mark: int) -> None:
        if self._encode_turn is None:
            return
        turn = self._encode_turn(message)
        size = len(turn)
        if message.images:
            uncounted = sum(len(image.data) - IMAGE_TOKENS_BOUND for image in message.images)
            self._image_bytes += uncounted
            size -= uncounted
        self.turns.append(turn)
        self._marks.append(mark)
        self.size += size
        self.unbilled_bytes += size
        self.new_bytes += size


# A reply's own names and braces on the widest wire.
_WIRE_BYTES = 120


def _note(steps_through: int) -> str:
    return (
        f"[Note from the system that runs you: steps 1 to {steps_through} are left out here, since the context window "
        "is full. What their tools returned is kept: read_result lists the calls, and with a call_id it reads one.]"
    )
