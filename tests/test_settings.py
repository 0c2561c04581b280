"""The environment as typed values, and the model that follows from it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from conductor_ai.errors import InvalidInput, MissingKey, ModelForbidden, UnknownModel
from conductor_ai.model_catalog import Catalog, get_model
from conductor_ai.settings import VARIABLES, Settings, default_model, env_example, require_key

TODAY = date(2026, 11, 23)
KEYS = {
    "ANTHROPIC_API_KEY": "sk-ant-0123456789",
    "OPENROUTER_API_KEY": "sk-or-0123456789",
    "GOOGLE_API_KEY": "AIza0123456789",
    "LOCAL_LLM_API_KEY": "local-0123456789",
    "SUPABASE_SERVICE_KEY": "eyJ0123456789",
    "CONDUCTOR_KEY_PEPPER": "pepper-0123456789",
    "CONDUCTOR_API_KEY": "cond_live_0123456789",
}
ADDRESSES = {"REDIS_URL", "DATABASE_URL", "SUPABASE_DB_URL", "CONDUCTOR_SQL_URL"}


@pytest.fixture(autouse=True)
def empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without our variables, and a current folder without `.env`."""
    for one in VARIABLES:
        monkeypatch.delenv(one.name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_set_leaves_the_public_defaults() -> None:
    settings = Settings.load()
    assert settings.anthropic_api_key is None
    assert settings.app_env == "development"
    assert settings.conductor_home == Path(".conductor")
    assert settings.models_file == Path(".conductor/models.toml")
    assert settings.conductor_plugins_dir == Path("plugins")
    assert settings.anthropic_base_url == "https://api.anthropic.com"
    assert settings.openrouter_base_url == "https://openrouter.ai/api/v1"
    assert settings.gemini_base_url == "https://generativelanguage.googleapis.com"
    assert settings.local_llm_base_url is None
    assert not any(settings.is_set(one.name) for one in VARIABLES)
    assert settings.secrets() == []


def test_variables_are_read_and_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "  sk-ant-0123456789\n")
    monkeypatch.setenv("OPENROUTER_BASE_URL", "http://127.0.0.1:8080/api/v1/")
    monkeypatch.setenv("CONDUCTOR_HOME", "~/agents")
    settings = Settings.load()
    assert settings.anthropic_api_key is not None
    assert settings.anthropic_api_key.get_secret_value() == "sk-ant-0123456789"
    assert settings.openrouter_base_url == "http://127.0.0.1:8080/api/v1"
    assert settings.conductor_home == Path("~/agents").expanduser()
    assert settings.is_set("ANTHROPIC_API_KEY")
    assert not settings.is_set("GOOGLE_API_KEY")


def test_the_env_file_of_the_current_folder_fills_in_what_the_environment_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["CONDUCTOR_MODEL=local/a", "APP_ENV=production", "GOOGLE_API_KEY=from-file", "SOMETHING_ELSE=1"]
    (tmp_path / ".env").write_text("\n".join(lines))
    monkeypatch.setenv("CONDUCTOR_MODEL", "local/b")
    monkeypatch.setenv("GOOGLE_API_KEY", "")
    settings = Settings.load()
    assert (settings.conductor_model, settings.app_env) == ("local/b", "production")
    assert settings.google_api_key is not None
    assert settings.google_api_key.get_secret_value() == "from-file"


@pytest.mark.parametrize("blank", ["", "   ", "\t"])
def test_a_blank_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    for one in VARIABLES:
        monkeypatch.setenv(one.name, blank)
    settings = Settings.load()
    assert settings == Settings()
    assert settings.anthropic_base_url == "https://api.anthropic.com"
    assert settings.anthropic_api_key is None
    assert not any(settings.is_set(one.name) for one in VARIABLES)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("APP_ENV", "staging", "APP_ENV must be 'development' or 'production'"),
        ("ANTHROPIC_API_KEY", "sk-hunter2\nx-evil: 1", "ANTHROPIC_API_KEY must be one line of plain text"),
        ("CONDUCTOR_MODEL", "a\tb", "CONDUCTOR_MODEL must be one line of plain text"),
        ("ANTHROPIC_BASE_URL", "api.example.com", "ANTHROPIC_BASE_URL must be an address that begins with http"),
        ("OPENROUTER_BASE_URL", "ftp://hunter2.example", "OPENROUTER_BASE_URL must be an address"),
        ("GEMINI_BASE_URL", "https://", "GEMINI_BASE_URL must be an address"),
        ("SUPABASE_URL", "http://[::1", "SUPABASE_URL Invalid IPv6 URL"),
        ("LOCAL_LLM_BASE_URL", "http://me:hunter2@host/v1", "LOCAL_LLM_BASE_URL must be a plain address"),
        ("LOCAL_LLM_BASE_URL", "http://host/v1?key=hunter2", "LOCAL_LLM_BASE_URL must be a plain address"),
        ("REDIS_URL", "http://:hunter2@host", "REDIS_URL must begin with redis://"),
        ("DATABASE_URL", "mysql://me:hunter2@host/db", "DATABASE_URL must begin with postgresql://"),
        ("CONDUCTOR_SQL_URL", "mysql://me:hunter2@host/db", "CONDUCTOR_SQL_URL must begin with postgresql://"),
        ("CONDUCTOR_RETENTION_DAYS", "0", "CONDUCTOR_RETENTION_DAYS must be greater than or equal to 1"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_variable_and_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput) as caught:
        Settings.load()
    assert str(caught.value).startswith(complaint)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_several_bad_values_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ENV", "x")
    monkeypatch.setenv("REDIS_URL", "x")
    with pytest.raises(InvalidInput, match=r"APP_ENV must be .*; REDIS_URL must begin"):
        Settings.load()


def test_an_env_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"ANTHROPIC_API_KEY=\xff\xfe")
    with pytest.raises(InvalidInput, match=r"^\.env cannot be read: it is not UTF-8 text$"):
        Settings.load()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that even root cannot read")
def test_an_env_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").symlink_to("/proc/self/mem")
    with pytest.raises(InvalidInput, match=r"^\.env cannot be read: "):
        Settings.load()


def test_an_env_file_with_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# keys\nAPP_ENV='production\n")
    with pytest.raises(InvalidInput, match=r"^\.env line 2 cannot be read$"):
        Settings.load()


def test_an_env_file_that_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    with pytest.raises(InvalidInput, match=r"^\.env cannot be read: Is a directory$"):
        Settings.load()


def test_secrets_are_listed_longest_first_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REDIS_URL", "redis://user:p%40ssword@host:6379/0")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:tr%C3%A9sor@host/db")
    monkeypatch.setenv("SUPABASE_DB_URL", "postgresql://host/db?user=me&password=inquery")
    settings = Settings.load()
    secrets = settings.secrets()
    assert {*KEYS.values(), "p%40ssword", "p@ssword", "tr%C3%A9sor", "trésor", "inquery"} == set(secrets)
    assert [len(text) for text in secrets] == sorted(map(len, secrets), reverse=True)
    shown = f"{settings!r} {settings} {settings.model_dump_json()}"
    assert not any(secret in shown for secret in secrets)


def test_a_secret_of_any_length_is_listed_and_no_password_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_LLM_API_KEY", "none")
    monkeypatch.setenv("REDIS_URL", "redis://localhost:6379")
    assert Settings.load().secrets() == ["none"]


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_any_key_arrives_unchanged_and_is_a_secret(key: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_API_KEY", key)
        settings = Settings.load()
    assert settings.secrets() == [key]


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().app_env = "production"


class TestVariables:
    def test_every_variable_of_the_plan_and_the_issue_is_there(self) -> None:
        assert {one.name for one in VARIABLES} == {
            "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY", "GOOGLE_API_KEY", "REDIS_URL", "SUPABASE_URL",
            "SUPABASE_SERVICE_KEY", "APP_ENV", "CONDUCTOR_HOME", "CONDUCTOR_MODEL", "CONDUCTOR_PLUGINS_DIR",
            "CONDUCTOR_AGENTS_DIR", "CONDUCTOR_FETCH_GRANTS", "CONDUCTOR_MODEL_ATTEMPTS",
            "ANTHROPIC_BASE_URL", "OPENROUTER_BASE_URL", "GEMINI_BASE_URL", "LOCAL_LLM_BASE_URL", "LOCAL_LLM_API_KEY",
            "DATABASE_URL", "SUPABASE_DB_URL", "CONDUCTOR_KEY_PEPPER", "CONDUCTOR_ALLOWED_HOSTS",
            "CONDUCTOR_CORS_ORIGINS", "CONDUCTOR_RETENTION_DAYS", "CONDUCTOR_API_KEY", "CONDUCTOR_SANDBOX",
            "CONDUCTOR_SANDBOX_LEVEL", "CONDUCTOR_SANDBOX_IMAGE", "CONDUCTOR_SQL_URL", "CONDUCTOR_SQL_TABLES",
        }  # fmt: skip

    def test_each_has_one_line_of_meaning(self) -> None:
        assert all(one.meaning and "\n" not in one.meaning for one in VARIABLES)

    def test_the_secret_ones_are_marked(self) -> None:
        assert {one.name for one in VARIABLES if one.is_secret} == {*KEYS, *ADDRESSES}

    def test_the_example_file_is_this_table(self) -> None:
        example = Path(__file__).parents[1] / ".env.example"
        assert example.read_text() == env_example()

    def test_the_example_file_copied_as_it_is_changes_nothing(self, tmp_path: Path) -> None:
        defaults = Settings.load().model_dump()
        (tmp_path / ".env").write_text(env_example())
        assert Settings.load().model_dump() == defaults


class TestDefaultModel:
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["ANTHROPIC_API_KEY"], "claude-sonnet-5-5"),
            (["OPENROUTER_API_KEY"], "deepseek/deepseek-chat-v3"),
            (["GOOGLE_API_KEY"], "gemini-3.8-flash"),
            (["GOOGLE_API_KEY", "OPENROUTER_API_KEY"], "deepseek/deepseek-chat-v3"),
            (["GOOGLE_API_KEY", "OPENROUTER_API_KEY", "ANTHROPIC_API_KEY"], "claude-sonnet-5-5"),
        ],
    )
    def test_it_is_one_whose_key_is_set(self, monkeypatch: pytest.MonkeyPatch, names: list[str], expected: str) -> None:
        for name in names:
            monkeypatch.setenv(name, KEYS[name])
        settings = Settings.load()
        model = default_model(settings, Catalog.load(), today=TODAY)
        assert model.id == expected
        require_key(model, settings)
        assert default_model(settings, Catalog.load()).provider is model.provider

    def test_conductor_model_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEYS["ANTHROPIC_API_KEY"])
        monkeypatch.setenv("CONDUCTOR_MODEL", "local/llama3.1:8b")
        assert default_model(Settings.load(), Catalog.load(), today=TODAY).id == "local/llama3.1:8b"

    @pytest.mark.parametrize(("model_id", "error"), [("gpt-4o", ModelForbidden), ("nonsense", UnknownModel)])
    def test_conductor_model_is_checked_like_any_other(
        self, monkeypatch: pytest.MonkeyPatch, model_id: str, error: type[Exception]
    ) -> None:
        monkeypatch.setenv("CONDUCTOR_MODEL", model_id)
        with pytest.raises(error, match=model_id):
            default_model(Settings.load(), Catalog.load(), today=TODAY)

    def test_a_local_server_alone_needs_a_model_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOCAL_LLM_BASE_URL", "http://localhost:11434/v1")
        with pytest.raises(InvalidInput, match="no model is named") as caught:
            default_model(Settings.load(), Catalog.load(), today=TODAY)
        assert "CONDUCTOR_MODEL=local/" in (caught.value.hint or "")

    def test_without_any_key_it_says_what_to_set_and_offers_the_demo(self) -> None:
        with pytest.raises(MissingKey) as caught:
            default_model(Settings.load(), Catalog.load(), today=TODAY)
        for word in ("ANTHROPIC_API_KEY", "OPENROUTER_API_KEY", "GOOGLE_API_KEY", "conductor demo"):
            assert word in (caught.value.hint or "")

    @pytest.mark.parametrize(
        ("today", "expected"),
        [(date(2026, 10, 30), "claude-sonnet-4-5"), (date(2026, 10, 31), "claude-sonnet-5-5")],
    )
    def test_a_model_retiring_within_a_month_gives_way(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, today: date, expected: str
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEYS["ANTHROPIC_API_KEY"])
        extra = tmp_path / "models.toml"
        extra.write_text('defaults = ["claude-sonnet-4-5"]')
        assert default_model(Settings.load(), Catalog.load(extra), today=today).id == expected

    def test_a_retiring_model_stays_where_its_successor_has_no_key(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEYS["ANTHROPIC_API_KEY"])
        extra = tmp_path / "models.toml"
        extra.write_text('defaults = ["claude-sonnet-4-5"]\n[models."claude-sonnet-4-5"]\nsuccessor = "acme/a"\n')
        extra.write_text(extra.read_text() + '[models."acme/a"]\n')
        assert default_model(Settings.load(), Catalog.load(extra), today=TODAY).id == "claude-sonnet-4-5"


class TestRequireKey:
    @pytest.mark.parametrize(
        ("model_id", "variable"),
        [
            ("claude-sonnet-5-5", "ANTHROPIC_API_KEY"),
            ("gemini-3.8-flash", "GOOGLE_API_KEY"),
            ("deepseek/deepseek-r1", "OPENROUTER_API_KEY"),
            ("local/llama3.1:8b", "LOCAL_LLM_BASE_URL"),
        ],
    )
    def test_the_missing_variable_is_named(self, monkeypatch: pytest.MonkeyPatch, model_id: str, variable: str) -> None:
        with pytest.raises(MissingKey, match=f"{model_id} needs {variable}"):
            require_key(get_model(model_id), Settings.load())
        monkeypatch.setenv(variable, "http://localhost:1/v1")
        require_key(get_model(model_id), Settings.load())

    def test_the_demo_needs_no_key_and_no_place_in_production(self, monkeypatch: pytest.MonkeyPatch) -> None:
        demo = get_model("demo/scripted")
        require_key(demo, Settings.load())
        monkeypatch.setenv("APP_ENV", "production")
        with pytest.raises(ModelForbidden, match="APP_ENV is production"):
            require_key(demo, Settings.load())
