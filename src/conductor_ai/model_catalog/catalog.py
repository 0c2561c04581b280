"""The catalog: every model that can be named, and the choice among those we list."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TypeVar

from conductor_ai.errors import InvalidInput, UnknownModel, UsageError
from conductor_ai.model_catalog import policy, price_snapshot
from conductor_ai.model_catalog.entries import ModelFile, read_model_file
from conductor_ai.model_catalog.ids import check_form, model_from_id, provider_of
from conductor_ai.model_catalog.model import Budget, ModelInfo, ModelProvider, Task

DATA_FILE = Path(__file__).with_name("models.toml")
CHINA = "CN"

# What providers put behind the name of a model for one release of it: a date, or the number of a version. Four digits
# are not among them: DeepSeek, Qwen and Kimi give such names to models with prices of their own.
_RELEASE = re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d|\d{3})")

W = TypeVar("W", bound=StrEnum)


class Catalog:
    """Our models with a user's own on top. Immutable in what it answers, safe to share between threads."""

    def __init__(self, models: dict[str, ModelInfo], defaults: tuple[str, ...]) -> None:
        self._models = models
        self._from_snapshot: dict[str, ModelInfo] = {}
        # Where several names stand for one model, its own comes first.
        self._by_wire_id = {(model.provider, model.wire_id): model for model in reversed(models.values())}
        self._by_wire_id |= {(m.provider, m.wire_id): m for m in models.values() if m.id == m.wire_id}
        self.defaults = tuple(self.get_model(model_id) for model_id in defaults)
        """What to take when nobody names a model, best first."""

    @classmethod
    def load(cls, extra: Path | None = None) -> Catalog:
        """Our data file and, where it exists, the user's `extra` on top of it, field by field.

        Raises: InvalidInput or ModelForbidden, in one line that names file, entry and field.
        """
        ours = _our_file()
        if extra is None or not extra.exists():
            return cls(dict(ours.models), ours.defaults)
        theirs = read_model_file(extra, ours.models)
        try:
            return cls({**ours.models, **theirs.models}, theirs.defaults or ours.defaults)
        except UsageError as exc:
            raise type(exc)(f"{extra}: defaults: {exc}", hint=exc.hint) from exc

    def get_model(self, model_id: str) -> ModelInfo:
        """The model of exactly this id.

        An id that no file lists is looked up in the price list of genai-prices (the first such look costs about 0.6 s
        of CPU: do it while starting, not in the loop). `local/<name>` is always accepted.

        Raises: UnknownModel with the nearest known ids; ModelForbidden for OpenAI's models under any name; InvalidInput
            for what cannot be an id at all.
        """
        if not isinstance(model_id, str):
            raise InvalidInput(f"a model is named by its id, a text; got {model_id!r}")
        if model := self._models.get(model_id) or self._from_snapshot.get(model_id):
            return model
        policy.refuse_forbidden(model_id)
        check_form(model_id)
        provider = provider_of(model_id)
        if provider is ModelProvider.LOCAL:
            return model_from_id(model_id, provider)
        if model := price_snapshot.find(provider, model_id):
            self._from_snapshot[model_id] = model
            return model
        raise self._unknown(model_id, provider)

    def answering(self, asked: ModelInfo, answered_by: str) -> ModelInfo:
        """The model that a provider says has answered, where it is another one that we know; else the one it was asked
        for.

        Args:
            answered_by: A wire id. The one asked with a date or a version behind it is the same model.
        """
        if answered_by == asked.wire_id or asked.provider in (ModelProvider.LOCAL, ModelProvider.DEMO):
            return asked
        known = self._by_wire_id.get((asked.provider, answered_by))
        if known is not None:
            return known
        if _RELEASE.fullmatch(answered_by.removeprefix(asked.wire_id)):
            return asked
        # Who lists no such model himself looks into the price list: that costs nothing where `asked` came from there.
        # Of the others only OpenRouter answers with models that nobody named, and it mostly sends a bill along.
        if asked.id not in self._models or asked.provider is ModelProvider.OPENROUTER:
            return price_snapshot.find(asked.provider, answered_by) or asked
        return asked

    def list_models(self) -> list[ModelInfo]:
        """Every model of the files, ours first, in their order."""
        return list(self._models.values())

    def select_model(
        self,
        task: str | None = None,
        budget: str | None = None,
        require_vision: bool = False,
        prefer_chinese: bool = False,
    ) -> str:
        """The id of the listed model that fits best. Local models and the demo are never chosen: they must be named.

        Args:
            task: One of `Task`; it ranks and excludes nothing. Default: general.
            budget: One of `Budget`, a ceiling: "standard" also admits "budget". Default: no ceiling.
            require_vision: Only models that read images.
            prefer_chinese: Only models made in China.
        Raises: InvalidInput for a word that is none of these, or where no model passes the filters.
        """
        wanted = _word(Task, "task", task) or Task.GENERAL
        ceiling = _word(Budget, "budget", budget)
        affordable = list(Budget)[: list(Budget).index(ceiling) + 1] if ceiling else list(Budget)
        fitting = [
            model
            for model in self._models.values()
            if model.provider not in (ModelProvider.LOCAL, ModelProvider.DEMO)
            and model.budget in affordable
            and (model.vision or not require_vision)
            and (model.origin == CHINA or not prefer_chinese)
        ]
        if not fitting:
            filters = f"budget={budget}, require_vision={require_vision}, prefer_chinese={prefer_chinese}"
            raise InvalidInput(f"no model fits: {filters}", hint="loosen a filter, or add a model to models.toml")
        return max(fitting, key=lambda model: (model.tasks.get(wanted, -1), model.tasks.get(Task.GENERAL, -1))).id

    def _unknown(self, model_id: str, provider: ModelProvider | None) -> UnknownModel:
        import difflib  # only a mistyped id needs it

        candidates = [*self._models, *filter(policy.is_allowed, price_snapshot.known_ids(provider))]
        near = difflib.get_close_matches(model_id, dict.fromkeys(candidates), n=3, cutoff=0.6)
        question = f"; did you mean {' or '.join(near)}?" if near else ""
        entry = f'[models."{model_id}"]' + ("" if provider else " with provider = ...")
        return UnknownModel(
            f"unknown model {model_id!r}{question}",
            hint=f"see `conductor models list`, or add it to $CONDUCTOR_HOME/models.toml under {entry}",
        )


@cache
def default_catalog() -> Catalog:
    """Our models alone; loaded on first use."""
    return Catalog.load()


def get_model(model_id: str) -> ModelInfo:
    """`Catalog.get_model` on the default catalog."""
    return default_catalog().get_model(model_id)


def list_models() -> list[ModelInfo]:
    """`Catalog.list_models` on the default catalog."""
    return default_catalog().list_models()


def select_model(
    task: str | None = None,
    budget: str | None = None,
    require_vision: bool = False,
    prefer_chinese: bool = False,
) -> str:
    """`Catalog.select_model` on the default catalog."""
    return default_catalog().select_model(task, budget, require_vision, prefer_chinese)


@cache
def _our_file() -> ModelFile:
    return read_model_file(DATA_FILE, {})


def _word(words: type[W], name: str, value: str | None) -> W | None:
    if value is None:
        return None
    if value not in list(words):
        raise InvalidInput(f"unknown {name} {value!r}; one of: {', '.join(words)}")
    return words(value)
