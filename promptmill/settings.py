"""Settings: built once by whoever starts a process, then passed down. Environment wins over `promptmill.toml`."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from promptmill.errors import BadSettings
from promptmill.jobs import explain
from promptmill.models import CLASS_LIMITS, START_TIER, Limits, class_of

PREFIX: Final = "PROMPTMILL_"
CONFIG_FILE: Final = "promptmill.toml"
CONFIG_VARIABLE: Final = "PROMPTMILL_CONFIG"

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[timedelta, Field(gt=timedelta(0))]


def default_data_dir() -> Path:
    """Return where state is kept that must outlive a reboot: `$XDG_DATA_HOME/promptmill`."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "promptmill"


class BudgetSettings(BaseModel):
    """`[budgets.<model class>]` in the file: limits a minute, and which model names draw on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rpm: Positive | None = None
    itpm: Positive | None = None
    otpm: Positive | None = None
    models: tuple[str, ...] = ()


class Settings(BaseSettings):
    """Everything that can be set. `PROMPTMILL_<NAME>` in the environment, or `<name>` in `promptmill.toml`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    redis_url: str | None = None
    """redis://, rediss:// or unix://; unset: an embedded Valkey in the data directory."""
    store_url: str | None = None
    """sqlite:///file or postgresql://...; unset: a SQLite file in the data directory."""
    data_dir: Path = Field(default_factory=default_data_dir)

    model: str = "claude-haiku-5-5"
    """For prompts that name none."""
    max_tokens: Positive = 1_024
    """For prompts that state none."""
    rpm: Positive | None = None
    """Requests a minute of each model class; unset: the lowest tier's."""
    itpm: Positive | None = None
    otpm: Positive | None = None
    budgets: dict[str, BudgetSettings] = Field(default_factory=dict)
    headroom: Annotated[float, Field(ge=0, le=0.9)] = 0.01
    """Share of each limit that is left unused."""
    request_burst: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(milliseconds=50)
    """How late a request may go without its slot being lost: what one request may be followed by at once is this time
    at the full rate. The provider's depth is unknown, so it stays short: even spacing is the point."""
    token_burst: Seconds = timedelta(seconds=1)
    """How much of the token limits may go at once after a pause, as a time at the full rate."""
    expected_output_tokens: Positive = 500
    """Reserved for an answer at admission (at most the job's max_tokens); real usage corrects it."""

    concurrency: Positive = 50
    """Jobs that one worker process runs at a time."""
    lease: Seconds = timedelta(seconds=12)
    """How long a worker's claim on a job lasts without renewal: a dead worker's jobs move on after it."""
    grace: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(seconds=30)
    """How long running calls may go on after SIGTERM before their jobs are handed back."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 6
    """Attempts that a job may use up; rate limits, outages, deploys and parked budgets use up none."""
    max_lost_leases: Positive = 10
    """A job that was running when so many workers died becomes a dead letter: it may be what kills them."""
    backoff: Seconds = timedelta(seconds=1)
    """Mean wait after the first failed attempt; doubles each time, with full jitter."""
    max_backoff: Seconds = timedelta(seconds=60)
    probe_interval: Seconds = timedelta(seconds=30)
    """How long a parked budget rests before one job is let through to see whether the cause is gone."""
    connect_timeout: Seconds = timedelta(seconds=10)
    read_timeout: Seconds = timedelta(seconds=120)
    """Longest silence within a streamed answer."""
    attempt_timeout: Seconds = timedelta(seconds=600)
    """Longest whole attempt."""
    stream_above_tokens: Positive = 4_096
    """Answers that may be longer than this are streamed, so that a stall is noticed early."""
    keep_result: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(hours=1)
    """How long Redis keeps a result for whoever waits; the result store keeps it for good."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    log_content: bool = False
    """Put prompts and answers into debug logs. Off: no log ever holds either (I7)."""

    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="ANTHROPIC_API_KEY")
    anthropic_base_url: str | None = Field(default=None, validation_alias="ANTHROPIC_BASE_URL")

    @field_validator(
        "request_burst",
        "token_burst",
        "lease",
        "grace",
        "backoff",
        "max_backoff",
        "probe_interval",
        "connect_timeout",
        "read_timeout",
        "attempt_timeout",
        "keep_result",
        mode="before",
    )
    @classmethod
    def _plain_numbers_are_seconds(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                return timedelta(seconds=float(value))
            except ValueError:
                return value
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take explicit values, then the environment; `load` adds what the file says beneath both."""
        del settings_cls, dotenv_settings, file_secret_settings
        return init_settings, env_settings

    @classmethod
    def load(cls, *, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Return the settings of this process.

        `overrides` (command-line options; None means not given) win over the environment, which wins over the file
        named by PROMPTMILL_CONFIG or ./promptmill.toml. Raises BadSettings, naming the setting and what was expected.
        """
        environ = os.environ if environ is None else environ
        given = {name: value for name, value in overrides.items() if value is not None}
        _refuse_unknown(environ, cls)
        from_file = _read_file(environ, cls)
        in_environment = {name for name in cls.model_fields if environ.get(PREFIX + name.upper())}
        beneath = {name: value for name, value in from_file.items() if name not in in_environment | given.keys()}
        try:
            return cls(**{**beneath, **given})
        except ValidationError as error:
            raise BadSettings(f"settings: {explain(error)}") from None

    @property
    def store(self) -> str:
        """The result store's URL."""
        return self.store_url or f"sqlite:///{self.data_dir / 'results.sqlite'}"

    @property
    def declared_classes(self) -> dict[str, str]:
        """Model name to model class, as the file declares them. A class named like a model is one."""
        named = {model: name for name, budget in self.budgets.items() for model in budget.models}
        return {**{name: name for name in self.budgets if name not in CLASS_LIMITS}, **named}

    def class_of(self, model: str) -> str:
        """Return the model class whose budget `model` draws on. Raises promptmill.models.UnknownModel."""
        return class_of(model, self.declared_classes)

    def limits(self, model_class: str) -> Limits:
        """Return the limits of `model_class`: from the file, else the general ones, else the lowest tier's."""
        own = self.budgets.get(model_class, BudgetSettings())
        tier = CLASS_LIMITS.get(model_class, START_TIER)
        return Limits(
            requests=own.rpm or self.rpm or tier.requests,
            input_tokens=own.itpm or self.itpm or tier.input_tokens,
            output_tokens=own.otpm or self.otpm or tier.output_tokens,
        )


def _refuse_unknown(environ: Mapping[str, str], cls: type[Settings]) -> None:
    known = {PREFIX + name.upper() for name in cls.model_fields} | {CONFIG_VARIABLE}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            raise BadSettings(f"unknown setting {name} in the environment{_suggest(name, known)}")


def _read_file(environ: Mapping[str, str], cls: type[Settings]) -> dict[str, Any]:
    named = environ.get(CONFIG_VARIABLE)
    path = Path(named or CONFIG_FILE)
    if not named and not path.exists():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings(f"cannot read settings file {path}: {error}") from None
    known = {name for name in cls.model_fields if not name.startswith("anthropic_")}
    for name in content:
        if name not in known:
            raise BadSettings(f"unknown setting {name!r} in {path}{_suggest(name, known)}")
    return content


def _suggest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
