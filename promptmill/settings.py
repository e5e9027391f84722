"""Settings: built once by whoever starts a process, then passed down. Environment wins over `promptmill.toml`."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from promptmill.actions import AlarmAction, is_http, refuse_unknown_metrics
from promptmill.canaries.schedule import Interval
from promptmill.caps import SpendCap
from promptmill.errors import BadSettings
from promptmill.grading import GradingSettings
from promptmill.jobs import explain
from promptmill.metrics import BUILT_IN
from promptmill.models import CLASS_LIMITS, START_TIER, Limits, UnknownModel, class_of
from promptmill.settings_sources import PREFIX, read_environment, read_file, refuse_unknown

_DURATION: Final = TypeAdapter(timedelta)


def _refuse_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")  # noqa: TRY004 - what pydantic reports
    return value


def _written(pattern: str, expected: str) -> AfterValidator:
    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"expected {expected}, got {value!r}")
        return value

    return AfterValidator(check)


def _is_address(value: str) -> str:
    if not is_http(value):
        raise ValueError(f"expected http(s)://HOST/api/v2/status.json, got {value!r}")
    return value


Positive = Annotated[int, Field(ge=1, le=10**15), BeforeValidator(_refuse_truth)]
"""Redis' scripts count in doubles: what is much larger cannot be paced exactly, nor meant."""
Seconds = Annotated[timedelta, Field(gt=timedelta(0))]


def default_data_dir() -> Path:
    """Return where state is kept that must outlive a reboot: `$XDG_DATA_HOME/promptmill`."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "promptmill"


class BudgetSettings(BaseModel):
    """`[budgets.<model class>]` in the file: limits a minute, whether they hold, and which model names draw on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rpm: Positive | None = None
    itpm: Positive | None = None
    otpm: Positive | None = None
    pinned: bool | None = None
    count_cache_reads: bool | None = None
    models: tuple[str, ...] = ()


class Settings(BaseSettings):
    """Everything that can be set. `PROMPTMILL_<NAME>` in the environment, or `<name>` in `promptmill.toml`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    redis_url: str | None = None
    """redis://, rediss:// or unix://; unset: an embedded Valkey in the data directory."""
    store_url: str | None = None
    """sqlite:///file or postgresql://...; unset: a SQLite file in the data directory."""
    data_dir: Path = Field(default_factory=default_data_dir)
    """Where queue and results are kept that must outlive a reboot; unset: ~/.local/share/promptmill."""

    model: str = "claude-haiku-5-5"
    """For prompts that name none."""
    max_tokens: Positive = 1_024
    """For prompts that state none."""
    rpm: Positive | None = None
    """Requests a minute of each model class; unset: the lowest tier's."""
    itpm: Positive | None = None
    """Input tokens a minute, likewise."""
    otpm: Positive | None = None
    """Output tokens a minute, likewise."""
    budgets: dict[str, BudgetSettings] = Field(default_factory=dict)
    """Limits of single model classes: `[budgets.<class>]` in the file."""
    caps: tuple[SpendCap, ...] = ()
    """What may be spent in an hour or a day: `[[caps]]` in the file, JSON in the environment. Give all workers the
    same: counted is what everybody spends, but each worker obeys its own."""
    pinned: bool = False
    """Whether these limits hold although the provider's answers name others. Off: the provider knows best."""
    count_cache_reads: bool = False
    """Whether tokens read from the prompt cache count against the input limit: so for the oldest models, and for
    workspace limits of the type `input_tokens_per_minute`."""
    headroom: Annotated[float, Field(ge=0, le=0.9)] = 0.005
    """Share of each limit that is left unused. While answers tell that the provider's bucket is deep, and how full it
    is, a hundredth less is left: by default nothing."""
    warm_up: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(seconds=5)
    """How long a budget that has rested for a minute takes from a quarter of its rate to all of it: the provider
    refuses use that rises too sharply. 0: it goes at its whole rate at once."""
    request_burst: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(milliseconds=50)
    """How late a request may go without its slot being lost: what one request may be followed by at once is this time
    at the full rate. Short, since even spacing is the point; half a second where answers tell that the provider's
    bucket is deep."""
    token_burst: Seconds = timedelta(seconds=1)
    """How much of the token limits may go at once after a pause, as a time at the full rate. Answers differ in length
    from what was reserved; 3 s would use 99.0 % of the output limit instead of 98.3 % (in simulated hours), but a
    shallow bucket refuses what was saved up."""
    expected_output_tokens: Positive = 500
    """Reserved for an answer at admission (at most the job's max_tokens) until its kind of prompt was answered:
    jobs are of a kind by their tag `kind`, or by their system prompt. Real usage corrects it."""

    concurrency: Positive = 50
    """Jobs that one worker process runs at a time."""
    lease: Seconds = timedelta(seconds=12)
    """How long a worker's claim on a job lasts without renewal: a dead worker's jobs move on after it."""
    grace: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(seconds=30)
    """How long running calls may go on after SIGTERM before their jobs are handed back."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 6
    """Attempts that a job may use up; rate limits, outages, deploys and parked budgets use up none. A failure of the
    provider is one only if others were answered since the job failed before."""
    max_lost_leases: Positive = 10
    """A job that was running when so many workers died becomes a dead letter: it may be what kills them."""
    backoff: Seconds = timedelta(seconds=1)
    """Mean wait after the first failed attempt; doubles each time, with full jitter."""
    max_backoff: Seconds = timedelta(seconds=60)
    """The mean wait doubles no further than this."""
    probe_interval: Seconds = timedelta(seconds=30)
    """While a model class is out, or the account is refused, one request goes at this interval to see whether that is
    over; all others wait in the queue."""
    spend_probe_interval: Seconds = timedelta(minutes=15)
    """Likewise while a spend limit is reached: it ends at 00:00 UTC on the first of the month, or when its owner raises
    it."""
    status_page_url: Annotated[str, AfterValidator(_is_address)] | None = None
    """The provider's status page as JSON, in Statuspage's form (`.../api/v2/status.json`). One worker asks it, once a
    minute at most, while requests come to nothing; it is shown beside what is out, and when it no longer tells of an
    outage the next probe goes at once. It opens and closes nothing; its silence means nothing. Unset: nobody asks."""
    outage_patience: Seconds = timedelta(hours=6)
    """How long a model class may answer nobody before its failures use up attempts: what always fails must end, even
    where nothing else is left to show that the provider works."""
    fallback_after: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(seconds=30)
    """How long jobs that name fallbacks wait for a model class that is out before they ask the next one."""
    retry_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of a model class's rate that retries may take, beyond a few; what exceeds it waits longer. A retry that is
    answered takes nothing of it."""
    connect_timeout: Seconds = timedelta(seconds=10)
    """Longest wait for a connection to the API."""
    first_byte_timeout: Seconds = timedelta(seconds=120)
    """Longest wait for the first byte of a streamed answer, connecting included; a whole answer comes at its end."""
    read_timeout: Seconds = timedelta(seconds=120)
    """Longest silence within a streamed answer."""
    attempt_timeout: Seconds = timedelta(seconds=600)
    """Longest whole attempt."""
    stream_above_tokens: Positive = 4_096
    """Answers that may be longer than this are streamed, so that a stall is noticed early."""
    keep_result: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(hours=1)
    """How long Redis keeps a result for whoever waits; the result store keeps it for good."""

    quality_plugins: tuple[Annotated[str, _written(r"\w+(\.\w+)*:\w+", "module:attribute")], ...] = ()
    """Quality metrics of your own, beside the built-in ones: each "module:attribute" names a `worker.quality.Metric`.
    What a plug-in is and may do: docs/guides/quality-plugins.md."""

    grading: GradingSettings = Field(default_factory=GradingSettings)
    """Answers that a model grades, by a job of the overnight lane each: `[grading]` in the file. Unset: none."""

    metrics_address: Annotated[str, _written(r".*:\d{1,5}", "HOST:PORT")] | None = None
    """HOST:PORT where a worker serves metrics for Prometheus at `/metrics`, all of its processes together; port 0: any
    free one, which the log names; unset: nowhere. They hold no prompts, but tell how much you spend."""

    traces: bool = False
    """Send OpenTelemetry traces over OTLP; OTEL_EXPORTER_OTLP_ENDPOINT says where."""

    false_alarm_every: Positive = 100_000
    """Answers after which one false alarm about their quality is granted, whatever the number of metrics and series.
    A tenth of it notices changes about a sixth sooner."""

    alarm_actions: tuple[AlarmAction, ...] = ()
    """What is done when answers have become worse, and whom to tell of that, of spending and of outages:
    `[[alarm_actions]]` in the file, JSON in the environment. See docs/guides/alarms.md. Give all workers the same."""

    canaries: str | None = None
    """Prompts with known good answers, sent to each model of `canary_models` in rounds: `starter`, the set that ships
    with promptmill, or a file of your own; unset: none. Give all workers the same. docs/guides/canaries.md"""
    canary_models: tuple[Annotated[str, _written(r"\S{1,100}", "the name of a model")], ...] = ()
    """Models that canaries are sent to, as a list; unset: the one that prompts without a model are sent to."""
    canary_every: Interval = timedelta(hours=1)
    """Between two rounds: minutes that divide an hour, or hours that divide a day."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Of the worker's log: `debug`, `info` (a line a job), `warning` or `error`."""
    log_format: Literal["json", "console"] = "json"
    """`json`: one JSON object a line; `console`: lines for people."""
    log_content: bool = False
    """Log crashes with their whole traceback, which may quote prompts and answers. Off: no log holds either (I7)."""

    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="ANTHROPIC_API_KEY")
    anthropic_base_url: str | None = Field(default=None, validation_alias="ANTHROPIC_BASE_URL")

    @field_validator(
        "request_burst",
        "token_burst",
        "warm_up",
        "lease",
        "grace",
        "backoff",
        "max_backoff",
        "probe_interval",
        "spend_probe_interval",
        "outage_patience",
        "fallback_after",
        "connect_timeout",
        "first_byte_timeout",
        "read_timeout",
        "attempt_timeout",
        "keep_result",
        "canary_every",
        mode="before",
    )
    @classmethod
    def _plain_numbers_are_seconds(cls, value: Any) -> Any:
        if not isinstance(_refuse_truth(value), str | float):
            return value
        with suppress(ValueError, OverflowError):
            return timedelta(seconds=float(value))
        with suppress(ValidationError):
            return _DURATION.validate_python(value)
        raise ValueError(f"expected seconds (12) or a duration (PT12S, 00:00:12), got {value!r}")

    @field_validator("alarm_actions", "caps", mode="before")
    @classmethod
    def _each_is_one_of_a_list(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Mapping):
            raise ValueError(f"expected a list, got a single one; in the file each begins with [[{info.field_name}]]")  # noqa: TRY004 - what pydantic reports
        return value

    @field_validator("budgets")
    @classmethod
    def _each_model_has_one_budget(cls, budgets: dict[str, BudgetSettings]) -> dict[str, BudgetSettings]:
        declared: dict[str, str] = {}
        for name, budget in budgets.items():
            if not name.strip():
                raise ValueError("expected the name of a model class, got a blank one")
            if name not in CLASS_LIMITS:
                _refuse_second_budget(name, budget)
            for model in budget.models:
                if declared.setdefault(model, name) != name:
                    raise ValueError(f"expected model {model!r} in one class, got it in {declared[model]} and {name}")
        return budgets

    @field_validator("caps")
    @classmethod
    def _each_cap_is_for_a_class(cls, caps: tuple[SpendCap, ...], info: ValidationInfo) -> tuple[SpendCap, ...]:
        known = {*CLASS_LIMITS, *info.data.get("budgets", {})}
        for cap in caps:
            if cap.model_class is not None and cap.model_class not in known:
                raise ValueError(
                    f"expected model_class to be one of {', '.join(sorted(known))}, got {cap.model_class!r}"
                )
        return caps

    @field_validator("alarm_actions")
    @classmethod
    def _each_action_is_for_a_metric(
        cls, actions: tuple[AlarmAction, ...], info: ValidationInfo
    ) -> tuple[AlarmAction, ...]:
        if not info.data.get("quality_plugins"):  # what these are called only a worker knows, which imports them
            refuse_unknown_metrics(actions, BUILT_IN)
        return actions

    @model_validator(mode="after")
    def _the_models_of_actions_are_known(self) -> Self:
        for action in self.alarm_actions:
            if action.model is None:
                continue
            try:
                self.class_of(action.model)
            except UnknownModel as problem:
                raise ValueError(f"alarm_actions: model: {problem}") from None
        return self

    @model_validator(mode="after")
    def _the_grading_model_is_known(self) -> Self:
        try:
            self.class_of(self.grading.model)
        except UnknownModel as problem:
            raise ValueError(f"grading.model: {problem}") from None
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take explicit values alone: `load` collects those of the environment and of the file."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @classmethod
    def load(cls, *, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Return the settings of this process.

        `overrides` (command-line options; None means not given) win over the environment, which wins over the file
        named by PROMPTMILL_CONFIG or ./promptmill.toml. Raises BadSettings, naming the setting and what was expected.
        """
        environ = os.environ if environ is None else environ
        refuse_unknown(environ, cls)
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            from_file = read_file(environ, cls, tables={"budgets": BudgetSettings})
            return cls(**{**from_file, **read_environment(environ, cls), **given})
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

    def is_pinned(self, model_class: str) -> bool:
        """Return whether the limits of `model_class` hold whatever the provider says."""
        own = self.budgets.get(model_class, BudgetSettings()).pinned
        return self.pinned if own is None else own

    def counts_cache_reads(self, model_class: str) -> bool:
        """Return whether tokens read from the prompt cache draw on the budget of `model_class`."""
        own = self.budgets.get(model_class, BudgetSettings()).count_cache_reads
        return self.count_cache_reads if own is None else own

    def limits(self, model_class: str) -> Limits:
        """Return the limits of `model_class`: from the file, else the general ones, else the lowest tier's."""
        own = self.budgets.get(model_class, BudgetSettings())
        tier = CLASS_LIMITS.get(model_class, START_TIER)
        return Limits(
            requests=own.rpm or self.rpm or tier.requests,
            input_tokens=own.itpm or self.itpm or tier.input_tokens,
            output_tokens=own.otpm or self.otpm or tier.output_tokens,
        )


def _refuse_second_budget(name: str, budget: BudgetSettings) -> None:
    """Raise ValueError where a class was meant that is known by another name: its limits would bind nobody."""
    try:
        known = class_of(name)
    except UnknownModel:
        known = None
        if not budget.models and (near := difflib.get_close_matches(name, CLASS_LIMITS, n=1, cutoff=0.8)):
            known = near[0]
    if known:
        raise ValueError(f"expected the name of a model class, got {name!r}; did you mean [budgets.{known}]?")
