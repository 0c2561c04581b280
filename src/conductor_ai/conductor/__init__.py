"""The one door: what people and programs may ask of conductor-ai."""

from conductor_ai.conductor.conductor import Conductor
from conductor_ai.conductor.requests import StartRequest, plan

__all__ = ["Conductor", "StartRequest", "plan"]
