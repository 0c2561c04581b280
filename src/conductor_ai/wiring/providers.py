"""Providers, opened when a session first needs one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conductor_ai.agents.exchange_recorder import ExchangeRecorder, RecordedProvider
from conductor_ai.model_catalog import ModelInfo, ModelProvider
from conductor_ai.providers.base import Provider
from conductor_ai.providers.scripted import Script, ScriptedProvider
from conductor_ai.settings import Settings

if TYPE_CHECKING:
    import aiohttp
    from pydantic import SecretStr


class Providers:
    """One adapter per provider over one shared HTTP session; `close` closes it. `script` is the demo model's. With
    `recorder` each records what it is asked."""

    def __init__(self, settings: Settings, script: Script, recorder: ExchangeRecorder | None = None) -> None:
        self._settings = settings
        self._script = script
        self._recorder = recorder
        self._http: aiohttp.ClientSession | None = None
        self._adapters: dict[str, Provider] = {}
        self._open: dict[tuple[ModelProvider, bool], Provider] = {}

    def of(self, model: ModelInfo) -> Provider:
        """The adapter that serves `model`, calling tools as that model can. Needs a running event loop."""
        kind = (model.provider, model.native_tools)
        provider = self._open.get(kind)
        if provider is None:
            adapter = self._adapters.get(model.provider)
            if adapter is None:
                adapter = self._adapters[model.provider] = self._make(model.provider)
            provider = _calling_tools(adapter, *kind)
            if self._recorder is not None:
                provider = RecordedProvider(provider, self._recorder)
            self._open[kind] = provider
        return provider

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    def _make(self, name: str) -> Provider:
        if name == "demo":
            return ScriptedProvider(self._script)
        # Imported late: aiohttp is half of what a command imports, and most commands call no model.
        from conductor_ai.providers.http import open_http

        if self._http is None:
            self._http = open_http()
        return _over_http(name, self._http, self._settings)


def _over_http(name: str, http: aiohttp.ClientSession, settings: Settings) -> Provider:
    from conductor_ai.providers.anthropic import AnthropicProvider
    from conductor_ai.providers.gemini import GeminiProvider
    from conductor_ai.providers.local import LocalProvider
    from conductor_ai.providers.openrouter import OpenRouterProvider

    match name:
        case "anthropic":
            key = _key(settings.anthropic_api_key)
            return AnthropicProvider(http, api_key=key, base_url=settings.anthropic_base_url)
        case "gemini":
            return GeminiProvider(http, api_key=_key(settings.google_api_key), base_url=settings.gemini_base_url)
        case "openrouter":
            key = _key(settings.openrouter_api_key)
            return OpenRouterProvider(http, api_key=key, base_url=settings.openrouter_base_url)
        case "local":
            return LocalProvider(
                http, api_key=_key(settings.local_llm_api_key), base_url=settings.local_llm_base_url or ""
            )
    raise AssertionError(f"the catalog named a provider that does not exist: {name}")


def _calling_tools(adapter: Provider, served_by: ModelProvider, native_tools: bool) -> Provider:
    from conductor_ai.providers.text_react import BareJSONCalls, TextReAct

    if not native_tools:
        return TextReAct(adapter)
    return BareJSONCalls(adapter) if served_by is ModelProvider.LOCAL else adapter


def _key(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()
