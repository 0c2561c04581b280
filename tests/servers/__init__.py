"""Provider servers on loopback: real HTTP, a provider's wire, answers that a test writes down beforehand."""

from tests.servers.anthropic import FakeAnthropic
from tests.servers.chat_completions import FakeLocal, FakeOpenRouter
from tests.servers.gemini import FakeGemini
from tests.servers.provider_server import ProviderServer, Seen

__all__ = ["FakeAnthropic", "FakeGemini", "FakeLocal", "FakeOpenRouter", "ProviderServer", "Seen"]
