"""Code in a container of Docker, or of another engine that serves its API."""

from conductor_ai.tools.sandbox.docker.backend import DockerBackend

__all__ = ["DockerBackend"]
