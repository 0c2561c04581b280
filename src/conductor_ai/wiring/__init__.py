"""The one place that names concrete classes: opens resources, closes them in reverse."""

from conductor_ai.wiring.demo import DEMO_TASK, DEMO_TOOLS
from conductor_ai.wiring.runtime import Runtime, default_runtime, open_conductor, open_runtime, plan_run

__all__ = ["DEMO_TASK", "DEMO_TOOLS", "Runtime", "default_runtime", "open_conductor", "open_runtime", "plan_run"]
