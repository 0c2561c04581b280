"""Recorded sessions driven again, without keys and without a network; tests made out of them."""

from conductor_ai.wiring.replay.session import Replayed, replay_recording, replay_session

__all__ = ["Replayed", "replay_recording", "replay_session"]
