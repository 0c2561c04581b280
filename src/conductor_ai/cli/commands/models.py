"""`conductor models`: what can be asked, what it costs, and whether it works here."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_ai.cli.options import AsJSON, Server
from conductor_ai.errors import MissingKey, UsageError

if TYPE_CHECKING:
    from conductor_ai.conductor.model_tests import CheckResult
    from conductor_ai.model_catalog import ModelInfo
    from conductor_ai.settings import Settings


def list_models(as_json: AsJSON = False, server: Server = None) -> int:
    """List models with their prices in US dollars per million tokens. Others of a known provider work, too."""
    from conductor_ai.cli.output import say_json, say_table
    from conductor_ai.cli.text import money

    models = _known(server)
    if as_json:
        say_json(models)
        return 0
    rows = []
    for model in models:
        price = model["price"]
        cost = "unknown" if price is None else f"{money(price['input'])} / {money(price['output'])}"
        window, vision = f"{model['context_window']:,}", "yes" if model["vision"] else "no"
        rows.append((model["id"], model["name"], model["provider"], window, vision, cost, model["retires_on"] or ""))
    say_table(("model", "name", "provider", "window", "vision", "price in / out", "retires"), rows, shorten=("name",))
    return 0


def _known(server: str | None) -> list[dict[str, Any]]:
    import asyncio

    from conductor_ai.model_catalog import Catalog
    from conductor_ai.settings import Settings

    if server is None:
        return [model.to_dict() for model in Catalog.load(Settings.load().models_file).list_models()]
    from conductor_ai.cli.remote import models_of

    return asyncio.run(models_of(server))


def check_models(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Which models, also as A,B,C "
            "[default: CONDUCTOR_MODEL, and the catalog's defaults that there is a key for].",
        ),
    ] = None,
    max_cost: Annotated[
        str, typer.Option("--max-cost", metavar="USD", help="Stop testing a model before it costs more than this.")
    ] = "0.10",
    last: Annotated[bool, typer.Option("--last", help="Show the newest report that was saved; call no model.")] = False,
    as_json: AsJSON = False,
) -> int:
    """Test models against the live or local service, by a few small sessions each. The calls are real and cost money.

    Exits with 0 where every check passed, else with 1. The report is saved under $CONDUCTOR_HOME. A model without a
    known price is tested without a money limit.
    """
    import asyncio

    from conductor_ai.cli.exit_codes import ExitCode
    from conductor_ai.cli.output import note
    from conductor_ai.conductor.saved_model_tests import newest, save
    from conductor_ai.schemas.limits import Limits
    from conductor_ai.settings import Settings

    settings = Settings.load()
    if last:
        if models:
            raise UsageError("--last shows a saved report: it takes no model")
        found = newest(settings.conductor_home)
        if found is None:
            raise UsageError("no model test was saved yet", hint="conductor models test")
        _show_report(found[1], as_json=as_json)
        note(f"saved: {found[0]}")
        return ExitCode.COMPLETED
    max_cost_usd = Limits.of({"max_cost_usd": max_cost}).max_cost_usd  # first: to mend a figure takes no key
    assert max_cost_usd is not None, "it was given"
    model_ids = [name.strip() for given in models or () for name in given.split(",") if name.strip()]
    if models and not model_ids:  # an empty variable of a shell must not stand for models that cost money
        raise UsageError("no model is named", hint="leave the argument out to test the default models")
    report, interrupted = asyncio.run(_tested(_wanted(model_ids, settings), max_cost_usd))
    _show_report(report, as_json=as_json)
    note(f"saved: {save(report, settings.conductor_home)}")
    if interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.COMPLETED if report["ok"] else ExitCode.FAILED


def _wanted(model_ids: list[str], settings: Settings) -> list[str]:
    """The models to test, each of which can be called. Raises: UsageError."""
    from conductor_ai.model_catalog import Catalog, ModelProvider
    from conductor_ai.settings import default_model, require_key

    catalog = Catalog.load(settings.models_file)
    models = [catalog.get_model(model_id) for model_id in model_ids]
    if not models:
        # CONDUCTOR_MODEL where it is set; raises where there is nothing to take.
        models = [default_model(settings, catalog)]
        models += [model for model in catalog.defaults if _has_key(model, settings)]
        models = [model for model in models if model.provider is not ModelProvider.DEMO] or models
    for model in models:
        require_key(model, settings)
    return list(dict.fromkeys(model.id for model in models))


def _has_key(model: ModelInfo, settings: Settings) -> bool:
    from conductor_ai.settings import require_key

    try:
        require_key(model, settings)
    except MissingKey:
        return False
    return True


async def _tested(model_ids: list[str], max_cost_usd: Decimal) -> tuple[dict[str, Any], bool]:
    """Returns: the report, and whether a person ended the run early."""
    import asyncio

    from conductor_ai.cli.door import opened
    from conductor_ai.cli.output import note
    from conductor_ai.cli.stop_signals import StopSignals

    async with opened() as conductor:
        tests = conductor.model_tests(model_ids, max_cost_usd=max_cost_usd, on_check=_tell)
        note(f"testing {', '.join(model_ids)}: real calls, at most ${max_cost_usd} each where a price is known")
        stopping = "stopping cleanly; press Ctrl-C again to leave at once"
        with StopSignals(on_stop=lambda: note(stopping), before_leaving=lambda: None) as signals:
            try:
                await signals.run(tests.run())
            except asyncio.CancelledError:
                if not signals.stopped:
                    raise
        return tests.report(), signals.stopped


def _tell(model_id: str, result: CheckResult) -> None:
    """One line for each check that was made; of the others the report tells."""
    from conductor_ai.cli.output import note
    from conductor_ai.cli.text import milliseconds, one_line
    from conductor_ai.conductor.model_tests import Outcome

    if result.outcome is Outcome.SKIPPED:
        return
    took = "" if result.duration_ms is None else f" ({milliseconds(result.duration_ms)})"
    note(f"{model_id}  {result.name.value}: {result.outcome.value}{took}: {one_line(result.detail, 400)}")


def _show_report(report: dict[str, Any], *, as_json: bool) -> None:
    """A table of models and checks; below it, of each model what it used, and what did not pass."""
    from conductor_ai.cli.output import say, say_json, say_table
    from conductor_ai.cli.text import one_line
    from conductor_ai.conductor.model_checks import CheckName

    if as_json:
        say_json(report)
        return
    rows = []
    for model in report["models"]:
        outcomes = {check["check"]: check["outcome"] for check in model["checks"]}
        rows.append((model["model"], _spent(model["cost"]), *(outcomes[name.value] for name in CheckName)))
    say_table(("model", "cost", *(name.value for name in CheckName)), rows)
    for model in report["models"]:
        say(one_line(f"{model['model']}: {_used(model)}", 400))
        for line in _not_passed(model["checks"]):
            say(f"  {line}")
    say(f"tested on {report['created_at'][:19]} UTC with conductor-ai {report['version']}")


def _not_passed(checks: list[dict[str, Any]]) -> list[str]:
    """A line for each reason, with the checks that it stopped; below it what to do, where that is known."""
    from conductor_ai.cli.text import one_line

    stopped: dict[tuple[str, str, str | None], list[str]] = {}
    for check in checks:
        if check["outcome"] != "ok":
            hint = check.get("hint")  # reports of the first version have none
            stopped.setdefault((check["outcome"], check["detail"], hint), []).append(check["check"])
    lines = []
    for (outcome, why, hint), names in stopped.items():
        lines.append(one_line(f"{', '.join(names)} {outcome}: {why}", 400))
        if hint is not None:
            lines.append(f"  hint: {one_line(hint, 400)}")
    return lines


def _used(model: dict[str, Any]) -> str:
    from conductor_ai.cli.text import count

    if not model["model_calls"]:
        return "it answered no call"
    usage, host = model["usage"], f" on {', '.join(model['hosts'])}" if model["hosts"] else ""
    read = usage["input_tokens"] + usage["cache_read_tokens"] + usage["cache_write_tokens"]
    cached = "" if model["cache_share"] is None else f" ({model['cache_share']:.0%} from a cache)"
    calls = f"{count(model['model_calls'], 'call')}, {read:,} tokens in{cached} and {usage['output_tokens']:,} out"
    return f"answered by {', '.join(model['answered_by'])}{host}; {calls}"


def _spent(cost: dict[str, Any]) -> str:
    from conductor_ai.cli.text import money

    if cost["at_most_usd"] is None:
        return f"at least {money(cost['at_least_usd'])}"
    certain = cost["at_most_usd"] == cost["at_least_usd"]
    return money(cost["at_most_usd"]) if certain else f"at most {money(cost['at_most_usd'])}"


COMMANDS: dict[str, Callable[..., Any]] = {"list": list_models, "test": check_models}
