"""Choosing a model: the plan's answers, and what the filters do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conductor_ai.errors import InvalidInput
from conductor_ai.model_catalog import Budget, Catalog, ModelProvider, Task, get_model, list_models, select_model


@pytest.mark.parametrize(
    ("wish", "answer"),
    [
        ({"task": "coding"}, "qwen/qwen-2.5-coder-32b-instruct"),
        ({"task": "reasoning"}, "deepseek/deepseek-r1"),
        ({"task": "agents"}, "deepseek/deepseek-chat-v3"),
        ({"budget": "budget"}, "deepseek/deepseek-r1-distill-qwen-8b"),
        ({"require_vision": True}, "claude-sonnet-4-5-20250929"),
    ],
)
def test_the_plan_names_the_answer(wish: dict[str, Any], answer: str) -> None:
    assert select_model(**wish) == answer


def test_without_a_wish_it_is_the_plans_agent_model() -> None:
    assert select_model() == "deepseek/deepseek-chat-v3"


@pytest.mark.parametrize("task", [None, *Task])
@pytest.mark.parametrize("budget", [None, *Budget])
@pytest.mark.parametrize("require_vision", [False, True])
@pytest.mark.parametrize("prefer_chinese", [False, True])
def test_whatever_is_chosen_passes_every_filter(
    task: Task | None, budget: Budget | None, require_vision: bool, prefer_chinese: bool
) -> None:
    wish: dict[str, Any] = {
        "task": task,
        "budget": budget,
        "require_vision": require_vision,
        "prefer_chinese": prefer_chinese,
    }
    if require_vision and prefer_chinese and budget == Budget.BUDGET:
        with pytest.raises(InvalidInput, match="no model fits: budget=budget, require_vision=True, prefer_chinese=Tr"):
            select_model(**wish)
        return
    chosen = get_model(select_model(**wish))
    assert chosen.vision or not require_vision
    assert chosen.origin == "CN" or not prefer_chinese
    assert budget is None or list(Budget).index(chosen.budget) <= list(Budget).index(budget)
    assert chosen.provider not in (ModelProvider.LOCAL, ModelProvider.DEMO)


def test_the_task_ranks_what_the_filters_leave() -> None:
    assert select_model(task="coding", require_vision=True) == "claude-opus-5-5"
    assert select_model(task="coding", require_vision=True, budget="budget") == "claude-haiku-5-5"
    assert select_model(task="vision", prefer_chinese=True) == "qwen/qwen3-vl-235b-a22b-instruct"


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="unknown task 'cooking'; one of: general, agents, coding, reasoning, math"):
        select_model(task="cooking")


def test_an_unknown_budget_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="unknown budget 'cheap'; one of: budget, standard, premium"):
        select_model(budget="cheap")


def test_a_model_of_the_users_own_can_win(tmp_path: Path) -> None:
    extra = tmp_path / "models.toml"
    extra.write_text('[models."acme/thinker"]\ntasks = { reasoning = 101 }\norigin = "CN"\n')
    assert Catalog.load(extra).select_model(task="reasoning") == "acme/thinker"
    assert select_model(task="reasoning") == "deepseek/deepseek-r1"


def test_nothing_ties_for_the_first_place_of_a_task() -> None:
    for task in Task:
        scores = sorted((model.tasks[task] for model in list_models() if task in model.tasks), reverse=True)
        assert scores[0] > scores[1] or task is Task.AGENTS, task
