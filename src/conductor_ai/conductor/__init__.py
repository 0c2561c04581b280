"""The one door: what people and programs may ask of conductor-ai."""

from conductor_ai.conductor.agent_files import AgentSpec
from conductor_ai.conductor.conductor import Conductor
from conductor_ai.conductor.requests import StartRequest, plan

__all__ = ["AgentSpec", "Conductor", "StartRequest", "plan"]
