"""`conductor doctor`."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.console import SCRIPT, Console, Outcome
from tests.cli.model_server import ModelServer
from tests.cli.test_demo import WITHOUT_RIGHTS


def checks_of(outcome: Outcome) -> dict[str, tuple[bool, str]]:
    return {check["name"]: (check["ok"], check["detail"]) for check in outcome.json["checks"]}


def test_an_empty_folder_is_healthy_and_stays_empty(console: Console) -> None:
    ended = console("doctor", "--json")
    assert (ended.code, ended.json["ok"]) == (0, True)
    checks = checks_of(ended)
    assert checks["database"] == (True, "none yet; the first session makes it")
    assert "conductor demo" in checks["default model"][1]
    assert not (console.folder / ".conductor").exists()


def test_variables_are_told_with_their_meaning_and_secrets_are_not(console: Console) -> None:
    console.env |= {"ANTHROPIC_API_KEY": "sk-ant-very-secret", "CONDUCTOR_MODEL": "demo/scripted"}
    (console.folder / ".env").write_text("REDIS_URL=redis://:hidden-word@localhost:6379\n")
    ended = console.here("doctor", "--json")
    variables = {variable["name"]: variable for variable in ended.json["variables"]}
    assert variables["ANTHROPIC_API_KEY"] == {
        "name": "ANTHROPIC_API_KEY",
        "set": True,
        "value": None,
        "meaning": "key for Claude models",
    }
    assert (variables["CONDUCTOR_MODEL"]["value"], variables["REDIS_URL"]["set"]) == ("demo/scripted", True)
    assert variables["GOOGLE_API_KEY"]["set"] is False
    text = console.here("doctor").out
    assert "set     CONDUCTOR_MODEL = demo/scripted" in text
    assert not any(secret in text + ended.out for secret in ("very-secret", "hidden-word"))


def test_every_variable_of_the_example_file_is_told(console: Console) -> None:
    lines = (Path(__file__).parents[2] / ".env.example").read_text().splitlines()
    named = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert named == {variable["name"] for variable in console.here("doctor", "--json").json["variables"]}


def test_what_is_broken_is_named_and_is_exit_code_1(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_answer("hi")
    assert console.here("hello there").code == 0
    (console.folder / ".conductor" / "conductor.db").write_bytes(b"no database" * 1000)
    (desk / "register.py").write_text("def register(registry:\n")
    ended = console("doctor", "--json", "--plugins-dir", "plugins")
    checks = checks_of(ended)
    assert (ended.code, ended.json["ok"]) == (1, False)
    assert not checks["database"][0]
    assert "SyntaxError" in checks["plugin desk"][1]
    assert "BROKEN  database: " in console.here("doctor").out


def test_a_bad_setting_is_named_and_the_rest_is_told(console: Console) -> None:
    console.env["APP_ENV"] = "staging"
    ended = console.here("doctor", "--json")
    assert ended.code == 1
    assert "APP_ENV" in checks_of(ended)["settings"][1]
    assert {variable["name"] for variable in ended.json["variables"] if variable["set"]} == {"APP_ENV"}


def test_an_unknown_default_model_and_a_missing_plugins_folder_are_broken(console: Console) -> None:
    console.env["CONDUCTOR_MODEL"] = "gpt-4o"
    checks = checks_of(console.here("doctor", "--json", "--plugins-dir", "nowhere"))
    assert not checks["default model"][0]
    assert not checks["plugins"][0]


def test_a_home_that_cannot_be_written_is_broken(console: Console, tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    sealed.mkdir(mode=0o555)
    ended = subprocess.run(
        [*WITHOUT_RIGHTS, SCRIPT, "doctor"],
        cwd=sealed,
        env=console.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "BROKEN  home: " in ended.stdout


@pytest.mark.usefixtures("bubblewrap_works")
def test_the_sandbox_that_code_would_run_in_is_tried_and_named(console: Console) -> None:
    checks = {check["name"]: check for check in console("doctor", "--json").json["checks"]}
    assert checks["sandbox"]["ok"]
    assert checks["sandbox"]["detail"].startswith("bubblewrap, isolation by namespaces, memory bounded by ")
    assert checks["sql_query"]["detail"].startswith("not offered")


def test_without_a_sandbox_the_reason_and_what_mends_it_are_told(console: Console) -> None:
    console.env |= {"PATH": "/nowhere", "DOCKER_HOST": "unix:///nowhere/docker.sock"}

    told = console("doctor", "--json")
    asked_for = console("doctor", "--json", CONDUCTOR_SANDBOX="bubblewrap")

    sandbox = next(check for check in told.json["checks"] if check["name"] == "sandbox")
    assert sandbox["ok"] and "bwrap" in sandbox["detail"] and "apt-get install bubblewrap" in sandbox["detail"]
    assert (told.code, asked_for.code) == (0, 1)
    assert "code_run" in console("tools", "list").out
    refused = console("run", "hello", "--model", "demo/scripted", "--tools", "code_run")
    assert refused.code == 2 and "apt-get install bubblewrap" in refused.err
