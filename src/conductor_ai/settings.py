"""The environment as typed values: what `conductor` reads from variables and from `.env` of the current folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from conductor_ai.errors import InvalidInput, MissingKey, ModelForbidden
from conductor_ai.model_catalog import Catalog, ModelInfo, ModelProvider

MODELS_FILE = "models.toml"

# A default model that goes within this time gives way to its successor.
_RETIRING_SOON = timedelta(days=30)

_KEY_FIELDS = {
    ModelProvider.ANTHROPIC: "anthropic_api_key",
    ModelProvider.OPENROUTER: "openrouter_api_key",
    ModelProvider.GEMINI: "google_api_key",
    ModelProvider.LOCAL: "local_llm_base_url",
}


class Settings(BaseSettings):
    """Every variable conductor-ai reads. Made by `load`, which turns a bad value into one clear line."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_file=".env",  # looked for when the settings are loaded, in the folder that is current then
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    anthropic_api_key: SecretStr | None = Field(default=None, description="key for Claude models")
    openrouter_api_key: SecretStr | None = Field(default=None, description="key for DeepSeek, Qwen, Kimi and others")
    google_api_key: SecretStr | None = Field(default=None, description="key for Gemini models")
    conductor_model: str | None = Field(default=None, description="model to use when none is named")
    conductor_model_attempts: int = Field(
        default=4, ge=1, le=20, description="how often a model call is made at most while its provider is busy or away"
    )
    local_llm_base_url: str | None = Field(
        default=None, description="chat-completions server for local/<model>, such as http://localhost:11434/v1"
    )
    local_llm_api_key: SecretStr | None = Field(default=None, description="key for that server, if it wants one")
    conductor_home: Path = Field(
        default=Path(".conductor"), description="folder of the embedded database and of models.toml"
    )
    conductor_plugins_dir: Path = Field(default=Path("plugins"), description="folder of your plugins")
    conductor_agents_dir: Path = Field(default=Path("agents"), description="folder of your agents, one TOML file each")
    conductor_fetch_grants: str = Field(
        default="",
        description="host:port pairs, separated by commas, that tools may fetch although they are not public",
    )
    app_env: Literal["development", "production"] = Field(
        default="development",
        description="development or production; production refuses keyless use and the demo model",
    )
    database_url: SecretStr | None = Field(
        default=None, description="Postgres for everything stored, such as postgresql://user:password@host/name"
    )
    supabase_db_url: SecretStr | None = Field(
        default=None, description="the same, as Supabase shows it; DATABASE_URL wins over it"
    )
    conductor_key_pepper: SecretStr | None = Field(
        default=None, description="secret that keys of the API are hashed with; else one is made in CONDUCTOR_HOME"
    )
    conductor_api_key: SecretStr | None = Field(
        default=None, description="key of the API that conductor --server shows to the server"
    )
    conductor_allowed_hosts: str = Field(
        default="",
        description="names, separated by commas, that the API may be called by beside loopback and addresses",
    )
    conductor_cors_origins: str = Field(
        default="", description="exact origins, separated by commas, whose pages may call the API"
    )
    conductor_retention_days: int | None = Field(
        default=None, ge=1, description="days after which sessions that stopped are deleted; empty keeps them"
    )
    conductor_sandbox: Literal["auto", "bubblewrap", "docker"] = Field(
        default="auto", description="where code_run runs code: bubblewrap, docker, or auto for the first that works"
    )
    conductor_sandbox_level: Literal["namespaces", "kernel"] = Field(
        default="namespaces", description="weakest isolation that code_run accepts; kernel needs gVisor under docker"
    )
    conductor_sandbox_image: str | None = Field(
        default=None, description="image for the docker sandbox, pinned: name@sha256:... or an image id"
    )
    conductor_sql_url: SecretStr | None = Field(
        default=None,
        description="database that sql_query reads: postgresql://role:password@host/name, or sqlite:///file",
    )
    conductor_sql_tables: str = Field(
        default="", description="tables, separated by commas, that sql_query may read, such as sales.orders"
    )
    redis_url: SecretStr | None = Field(default=None, description="Redis for hot state, such as redis://localhost:6379")
    supabase_url: str | None = Field(default=None, description="Supabase project that audit rows are copied to")
    supabase_service_key: SecretStr | None = Field(default=None, description="service key for that project")
    anthropic_base_url: str = Field(
        default="https://api.anthropic.com", description="replaces Anthropic's public address"
    )
    openrouter_base_url: str = Field(
        default="https://openrouter.ai/api/v1", description="replaces OpenRouter's public address; ends in /api/v1"
    )
    gemini_base_url: str = Field(
        default="https://generativelanguage.googleapis.com", description="replaces Gemini's public address"
    )

    @classmethod
    def load(cls) -> Settings:
        """Read the environment, then `.env` for what it leaves out. An empty value counts as not set.

        Raises: InvalidInput, in one line that names the variable and never shows a secret.
        """
        try:
            _check_env_file(Path(".env"))
            return cls()
        except ValidationError as exc:
            # `from None`: the original carries the values, and would show them in a traceback.
            raise InvalidInput("; ".join(_complaint(error) for error in exc.errors(include_input=False))) from None
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
            raise InvalidInput(f".env cannot be read: {reason}") from exc

    @model_validator(mode="before")
    @classmethod
    def _blank_is_not_set(cls, data: dict[str, Any]) -> dict[str, Any]:
        stripped = {name: value.strip() if isinstance(value, str) else value for name, value in data.items()}
        return {name: value for name, value in stripped.items() if value != ""}

    @field_validator("*", mode="before")
    @classmethod
    def _one_line(cls, value: object) -> object:
        # A key with a line break in it would end up in a header.
        if isinstance(value, str) and not value.isprintable():
            raise ValueError("must be one line of plain text")
        return value

    @field_validator(
        "anthropic_base_url", "openrouter_base_url", "gemini_base_url", "local_llm_base_url", "supabase_url"
    )
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address that begins with http:// or https://")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("must be a plain address: no user name, no password, nothing after ? or #")
        return value.rstrip("/")

    @field_validator("redis_url")
    @classmethod
    def _redis_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and urlsplit(value.get_secret_value()).scheme not in ("redis", "rediss", "unix"):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("database_url", "supabase_db_url")
    @classmethod
    def _database_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and urlsplit(value.get_secret_value()).scheme not in ("postgres", "postgresql"):
            raise ValueError("must begin with postgresql://")
        return value

    @field_validator("conductor_sql_url")
    @classmethod
    def _queried_database(cls, value: SecretStr | None) -> SecretStr | None:
        schemes = ("postgres", "postgresql", "sqlite")
        if value is not None and urlsplit(value.get_secret_value()).scheme not in schemes:
            raise ValueError("must begin with postgresql:// or sqlite:///")
        return value

    @field_validator("conductor_home", "conductor_plugins_dir", "conductor_agents_dir")
    @classmethod
    def _expanded(cls, value: Path) -> Path:
        return value.expanduser()

    @property
    def postgres_url(self) -> SecretStr | None:
        """Where everything is stored; None: in the embedded database under `conductor_home`."""
        return self.database_url or self.supabase_db_url

    @property
    def models_file(self) -> Path:
        """Where a user's own models are, if there are any; pass it to `Catalog.load`."""
        return self.conductor_home / MODELS_FILE

    def _database_urls(self) -> tuple[SecretStr | None, ...]:
        return self.database_url, self.supabase_db_url, self.conductor_sql_url

    def is_set(self, variable: str) -> bool:
        """Whether the environment or `.env` gave this variable a value."""
        return variable.lower() in self.model_fields_set

    def secrets(self) -> list[str]:
        """Every secret value, longest first. Whoever hides them leaves out what is too short (`schemas.secrets`)."""
        found = set()
        for _, value in self:
            if value is None or not isinstance(value, SecretStr):
                continue
            if value in (self.redis_url, *self._database_urls()):  # of these only the password is one
                parts = urlsplit(value.get_secret_value())
                password = parts.password or ""
                found |= {password, unquote(password), *parse_qs(parts.query).get("password", ())}
            else:
                found.add(value.get_secret_value())
        return sorted(found - {""}, key=lambda text: (-len(text), text))


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable as people meet it. `default` is empty where there is none."""

    name: str
    meaning: str
    default: str
    is_secret: bool


VARIABLES: tuple[Variable, ...] = tuple(
    Variable(
        name=name.upper(),
        meaning=field.description or "",
        default="" if field.default is None else str(field.default),
        is_secret=field.annotation == SecretStr | None,
    )
    for name, field in Settings.model_fields.items()
)


def env_example() -> str:
    """The text of `.env.example`: every variable with its meaning, set to its default."""
    head = "# Copy to .env. Whatever stays empty counts as not set; variables of the environment win over this file.\n"
    return head + "".join(f"\n# {one.meaning}\n{one.name}={one.default}\n" for one in VARIABLES)


def default_model(settings: Settings, catalog: Catalog, *, today: date | None = None) -> ModelInfo:
    """The model to use when nobody names one.

    `CONDUCTOR_MODEL` where it is set, key or no key; else the first of the catalog's defaults whose provider has a key,
    or its successor where it retires within a month of `today` (default: today, UTC).

    Raises: MissingKey without any key, InvalidInput where only a local server is known, UnknownModel or ModelForbidden
        for what `CONDUCTOR_MODEL` says.
    """
    if settings.conductor_model is not None:
        return catalog.get_model(settings.conductor_model)
    day = today or datetime.now(UTC).date()
    for model in catalog.defaults:
        if _has_key(model, settings):
            return _staying(model, settings, catalog, day)
    if settings.local_llm_base_url is not None:
        raise InvalidInput(
            "LOCAL_LLM_BASE_URL is set, but no model is named",
            hint="set CONDUCTOR_MODEL=local/<name>, with a name your server knows",
        )
    raise MissingKey(
        "no model can be reached: no key is set",
        hint="set ANTHROPIC_API_KEY, OPENROUTER_API_KEY or GOOGLE_API_KEY (in .env or the environment), "
        "use a server of your own (LOCAL_LLM_BASE_URL and CONDUCTOR_MODEL=local/<name>), "
        "or see it work without a key: conductor demo",
    )


def require_key(model: ModelInfo, settings: Settings) -> None:
    """Check that calls to `model` can be made with these settings.

    Raises: MissingKey that names the variable; ModelForbidden for the demo model in production.
    """
    if model.provider is ModelProvider.DEMO and settings.app_env == "production":
        raise ModelForbidden(
            f"model {model.id!r} is refused: it is a script, and APP_ENV is production",
            hint="name a real model, or set APP_ENV=development",
        )
    if not _has_key(model, settings):
        variable = _KEY_FIELDS[model.provider].upper()
        raise MissingKey(f"{model.id} needs {variable}, which is not set", hint=f"set {variable} in .env")


def _has_key(model: ModelInfo, settings: Settings) -> bool:
    field = _KEY_FIELDS.get(model.provider)
    return field is None or getattr(settings, field) is not None


def _staying(model: ModelInfo, settings: Settings, catalog: Catalog, day: date) -> ModelInfo:
    while model.retires_on is not None and model.retires_on - day <= _RETIRING_SOON and model.successor:
        successor = catalog.get_model(model.successor)
        if not _has_key(successor, settings):
            break
        model = successor
    return model


def _check_env_file(path: Path) -> None:
    """The parser behind pydantic-settings only logs what it cannot read, and reads on.

    Raises: InvalidInput that names the line; OSError, UnicodeDecodeError.
    """
    if not (path.is_file() or path.is_dir()):  # a pipe could be read only once
        return
    with path.open(encoding="utf-8") as file:
        broken = [binding.original.line for binding in parse_stream(file) if binding.error]
    if broken:
        raise InvalidInput(f"{path} line {broken[0]} cannot be read", hint="each line is NAME=value, or begins with #")


def _complaint(error: Any) -> str:
    name = str(error["loc"][0]).upper() if error["loc"] else "settings"
    return f"{name} {error['msg'].removeprefix('Value error, ').replace('Input should be', 'must be')}"
