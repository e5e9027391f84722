"""Where settings come from, which source wins, and what is said of one that cannot be meant."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.actions import Notify, PauseLane, StopFallback
from promptmill.caps import SpendCap
from promptmill.errors import BadSettings
from promptmill.jobs import Lane
from promptmill.models import CLASS_LIMITS, Limits, UnknownModel
from promptmill.settings import Settings
from promptmill.settings_sources import PREFIX


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """No promptmill.toml of the developer's own, and nothing of the kind in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("PROMPTMILL_RPM", "PROMPTMILL_CONFIG", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def load(environ: dict[str, str] | None = None, **overrides) -> Settings:
    return Settings.load(environ=environ or {}, **overrides)


def refusal(environ: dict[str, str] | None = None, **overrides) -> str:
    with pytest.raises(BadSettings) as raised:
        load(environ, **overrides)
    return str(raised.value)


def write(text: str, name: str = "promptmill.toml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


# which source wins ---------------------------------------------------------------------------------------------------


def test_the_environment_wins_over_the_file_and_an_option_over_both():
    write("rpm = 1\nitpm = 1\notpm = 1")
    settings = load({"PROMPTMILL_ITPM": "2", "PROMPTMILL_OTPM": "2"}, otpm=3)
    assert (settings.rpm, settings.itpm, settings.otpm) == (1, 2, 3)


def test_an_option_that_was_not_given_overrides_nothing():
    assert load({"PROMPTMILL_RPM": "5"}, rpm=None).rpm == 5


def test_an_empty_variable_is_as_good_as_none():
    write("rpm = 1")
    assert load({"PROMPTMILL_RPM": "", "PROMPTMILL_CONFIG": ""}).rpm == 1


def test_the_environment_handed_in_is_the_one_that_counts(monkeypatch):
    monkeypatch.setenv("PROMPTMILL_RPM", "7")
    assert load().rpm is None
    assert Settings.load().rpm == 7
    assert Settings(itpm=1).rpm is None


def test_the_file_can_be_anywhere():
    write("rpm = 9", "elsewhere.toml")
    assert load({"PROMPTMILL_CONFIG": "elsewhere.toml"}).rpm == 9


def test_the_key_and_the_address_of_the_api_have_the_names_that_the_sdk_gives_them():
    settings = load({"ANTHROPIC_API_KEY": "sk-1", "ANTHROPIC_BASE_URL": "http://env"})
    assert settings.anthropic_api_key.get_secret_value() == "sk-1"
    assert settings.anthropic_base_url == "http://env"
    assert load({"ANTHROPIC_BASE_URL": "http://env"}, anthropic_base_url="http://option").anthropic_base_url == (
        "http://option"
    )


def test_a_key_never_shows(caplog):
    settings = load({"ANTHROPIC_API_KEY": "s3cret"})
    assert "s3cret" not in repr(settings) + str(settings) + settings.model_dump_json()


# names that are unknown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("PROMPTMILL_RPMM", "unknown setting PROMPTMILL_RPMM in the environment; did you mean PROMPTMILL_RPM?"),
        ("PROMPTMILL_CONCURENCY", "did you mean PROMPTMILL_CONCURRENCY?"),
        ("promptmill_rpm", "unknown setting promptmill_rpm in the environment; did you mean PROMPTMILL_RPM?"),
        ("Promptmill_Rpm", "did you mean PROMPTMILL_RPM?"),
        ("PROMPTMILL_ANTHROPIC_API_KEY", "did you mean ANTHROPIC_API_KEY?"),
        ("PROMPTMILL_", "known are ANTHROPIC_API_KEY, "),
        ("PROMPTMILL_QQQQQQQQ", "known are ANTHROPIC_API_KEY, "),
    ],
)
def test_a_mistyped_variable_is_refused_with_a_suggestion(name, says):
    message = refusal({name: "s3cret"})
    assert says in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "name",
    [
        "PROMPTMILL_SERVICE_HOST",
        "PROMPTMILL_SERVICE_PORT",
        "PROMPTMILL_SERVICE_PORT_HTTP",
        "PROMPTMILL_PORT",
        "PROMPTMILL_PORT_80_TCP",
        "PROMPTMILL_PORT_80_TCP_ADDR",
        "PROMPTMILL_REDIS_SERVICE_HOST",
        "PROMPTMILL_REDIS_PORT_6379_TCP_PROTO",
        "PATH",
        "PROMPTMILLER",
    ],
)
def test_what_kubernetes_says_of_a_service_called_promptmill_is_no_mistake(name):
    assert load({name: "tcp://10.0.0.1:6379"}) == load()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rmp = 5", "unknown setting 'rmp' in promptmill.toml; did you mean rpm?"),
        (
            "anthropic_api_key = 's3cret'",
            "unknown setting 'anthropic_api_key' in promptmill.toml; known are alarm_actions, ",
        ),
        ('[budgets."haiku-5-5"]\nrmp = 5', "unknown setting 'rmp' in [budgets.haiku-5-5] of promptmill.toml"),
        ("[budgets.x]\nmodel = ['a']", "did you mean models?"),
    ],
)
def test_a_mistyped_name_in_the_file_is_refused_with_a_suggestion(text, says):
    write(text)
    message = refusal()
    assert says in message
    assert "s3cret" not in message


def test_an_option_that_does_not_exist_is_refused():
    assert refusal(rmp=5) == "settings: rmp: unknown field"


# values that cannot be meant -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RPM", "0", "rpm: Input should be greater than or equal to 1"),
        ("RPM", "-5", "rpm: Input should be greater than or equal to 1"),
        ("RPM", f"1{'0' * 400}", "rpm: Input should be less than or equal to 1000000000000000"),
        ("RPM", "many", "rpm: Input should be a valid integer"),
        ("RPM", "1.5", "rpm: Input should be a valid integer"),
        ("CONCURRENCY", "0", "concurrency: Input should be greater than or equal to 1"),
        ("HEADROOM", "0.95", "headroom: Input should be less than or equal to 0.9"),
        ("HEADROOM", "nan", "headroom: Input should be"),
        ("LEASE", "0", "lease: Input should be greater than 0 seconds"),
        ("LEASE", "-1", "lease: Input should be greater than 0 seconds"),
        ("LEASE", "12s", "lease: expected seconds (12) or a duration (PT12S, 00:00:12), got '12s'"),
        ("LEASE", "inf", "lease: expected seconds"),
        ("LEASE", "nan", "lease: expected seconds"),
        ("LEASE", "1e300", "lease: expected seconds"),
        ("GRACE", "-1", "grace: Input should be greater than or equal to 0 seconds"),
        ("LOG_LEVEL", "loud", "log_level: Input should be 'debug', 'info', 'warning' or 'error'"),
        ("LOG_CONTENT", "maybe", "log_content: Input should be a valid boolean"),
        ("METRICS_ADDRESS", "9464", "metrics_address: expected HOST:PORT, got '9464'"),
        ("QUALITY_PLUGINS", '["ours"]', "quality_plugins.0: expected module:attribute, got 'ours'"),
        ("GRADING", '{"share": 1.1}', "grading.share: Input should be less than or equal to 1"),
        ("GRADING", '{"shar": 1}', "grading.shar: unknown field"),
        ("GRADING", '{"model": "nope"}', "grading.model: no rate limits are known for model 'nope'"),
        ("BUDGETS", "{", "budgets: expected JSON, such as [...] or {...}, got something else: "),
        (
            "CANARY_MODELS",
            "claude-haiku-5-5",
            "canary_models: expected JSON, such as [...] or {...}, got something else",
        ),
        ("CANARY_MODELS", '"claude-haiku-5-5"', "canary_models: expected a list, got something else"),
        ("GRADING", "0.5", "grading: expected an object with fields of its own, got something else"),
        ("GRADING", '{"share": true}', "grading.share: Input should be a valid number"),
        ("GRADING", '{"rubric": ""}', "grading.rubric: String should have at least 1 character"),
        ("STATUS_PAGE_URL", "status.claude.com", "status_page_url: expected http(s)://HOST/api/v2/status.json, got "),
        ("STATUS_PAGE_URL", "https://[::1/", "status_page_url: expected http(s)://HOST/api/v2/status.json, got "),
        ("STATUS_PAGE_URL", "https://host:99999/", "status_page_url: expected http(s)://HOST/api/v2/status.json, got "),
        ("BUDGETS", "[" * 100_000, "budgets: expected a JSON object, got one that is nested without end"),
        ("BUDGETS", "[]", "budgets: Input should be a valid dictionary"),
        ("BUDGETS", '{"x": 5}', "budgets.x: "),
        ("BUDGETS", '{"x": {"rmp": 5}}', "budgets.x.rmp: unknown field"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(name, value, says):
    assert says in refusal({PREFIX + name: value})


@pytest.mark.parametrize(
    "line", ["rpm = true", "lease = true", "lease = inf", "lease = nan", "rpm = '5x'", "model = 5"]
)
def test_a_value_in_the_file_that_cannot_be_meant_is_refused_by_name(line):
    write(line)
    assert refusal().startswith(f"settings: {line.split()[0]}: ")


@pytest.mark.parametrize(
    "text", ["rpm = ", "\x00", "[budgets", "rpm = 5\nrpm = 6", f"rpm = {'9' * 5_000}", "rpm = " + "[" * 100_000]
)
def test_a_file_that_is_no_toml_is_refused_by_its_name(text):
    write(text)
    assert refusal().startswith("cannot read settings file promptmill.toml: ")


def test_a_file_that_is_named_has_to_be_there():
    assert refusal({"PROMPTMILL_CONFIG": "gone.toml"}).startswith("cannot read settings file gone.toml: ")
    Path("folder.toml").mkdir()
    assert refusal({"PROMPTMILL_CONFIG": "folder.toml"}).startswith("cannot read settings file folder.toml: ")


def test_a_file_that_is_no_text_is_refused_by_its_name():
    Path("promptmill.toml").write_bytes(b"\xff\xfe")
    assert refusal().startswith("cannot read settings file promptmill.toml: ")


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("12", timedelta(seconds=12)),
        ("0.25", timedelta(milliseconds=250)),
        ("PT1M", timedelta(minutes=1)),
        ("00:01:30", timedelta(seconds=90)),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_as_iso_8601_has_it(text, duration):
    assert load({"PROMPTMILL_LEASE": text}).lease == duration
    write(f"lease = {text!r}" if not text[0].isdigit() or ":" in text else f"lease = {text}")
    assert load().lease == duration


@given(
    st.dictionaries(st.sampled_from([PREFIX + name.upper() for name in Settings.model_fields]), st.text(max_size=20))
)
def test_any_environment_is_settings_or_bad_settings(environ):
    with suppress(BadSettings):
        assert isinstance(load(environ), Settings)


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load().rpm = 5


# budgets -------------------------------------------------------------------------------------------------------------


def test_limits_are_a_classes_own_else_the_general_ones_else_the_lowest_tiers():
    write('rpm = 50\nitpm = 60\n[budgets."sonnet-5"]\nrpm = 7\n[budgets.mine]\notpm = 9\nmodels = ["m"]')
    settings = load()
    tier = CLASS_LIMITS["sonnet-5"]
    assert settings.limits("sonnet-5") == Limits(7, 60, tier.output_tokens)
    assert settings.limits("haiku-5-5") == Limits(50, 60, tier.output_tokens)
    assert settings.limits("mine") == Limits(50, 60, 9)
    assert load(rpm=1).limits("fable-5").requests == 1


def test_a_class_of_ones_own_takes_the_models_that_it_names_and_one_called_like_it():
    write('[budgets.mine]\nmodels = ["m-1", "claude-opus-5-5"]\n[budgets."m-2"]\nrpm = 5')
    settings = load()
    assert {name: settings.class_of(name) for name in ("m-1", "m-2", "m-2-latest", "claude-opus-5-5", "mine")} == {
        "m-1": "mine",
        "m-2": "m-2",
        "m-2-latest": "m-2",
        "claude-opus-5-5": "mine",
        "mine": "mine",
    }
    with pytest.raises(UnknownModel):
        settings.class_of("m-3")


@pytest.mark.parametrize(
    ("budgets", "says"),
    [
        ('{"claude-haiku-5-5": {"rpm": 5}}', "got 'claude-haiku-5-5'; did you mean [budgets.haiku-5-5]?"),
        ('{"claude-haiku-5-5-20260901": {"rpm": 5}}', "did you mean [budgets.haiku-5-5]?"),
        ('{"haiku-55": {"rpm": 5}}', "got 'haiku-55'; did you mean [budgets.haiku-5-5]?"),
        ('{"": {"rpm": 5}}', "expected the name of a model class, got a blank one"),
        ('{"a": {"models": ["m"]}, "b": {"models": ["m"]}}', "expected model 'm' in one class, got it in a and b"),
    ],
)
def test_a_budget_that_would_bind_nobody_or_split_one_models_limit_in_two_is_refused(budgets, says):
    assert says in refusal({"PROMPTMILL_BUDGETS": budgets})


# caps on spending ----------------------------------------------------------------------------------------------------


def test_caps_stand_in_the_file_and_in_the_environment_exact_to_the_cent():
    write('[[caps]]\nusd = 50\nper = "day"\n[[caps]]\nusd = 0.1\nper = "hour"\nlane = "overnight"\naction = "warn"')
    assert load().caps == (
        SpendCap(usd=Decimal(50), per="day"),
        SpendCap(usd=Decimal("0.1"), per="hour", lane=Lane.OVERNIGHT, action="warn"),
    )
    in_environment = '[{"usd": "2.50", "per": "day", "model_class": "opus-5"}]'
    (cap,) = load({"PROMPTMILL_CAPS": in_environment}).caps
    assert (cap.usd, cap.model_class, cap.action) == (Decimal("2.50"), "opus-5", "park")
    assert load({"PROMPTMILL_CAPS": "[]"}).caps == ()


def test_a_cap_may_be_for_a_class_of_ones_own():
    write('[budgets.mine]\nrpm = 5\n[[caps]]\nusd = 1\nper = "day"\nmodel_class = "mine"')
    assert load().caps[0].model_class == "mine"


@pytest.mark.parametrize(
    ("caps", "says"),
    [
        ('[{"per": "day"}]', "caps.0.usd: Field required"),
        ('[{"usd": 0, "per": "day"}]', "caps.0.usd: Input should be greater than 0"),
        ('[{"usd": "NaN", "per": "day"}]', "caps.0.usd: "),
        ('[{"usd": 1, "per": "week"}]', "caps.0.per: Input should be 'hour' or 'day'"),
        ('[{"usd": 1, "per": "day", "lane": "slow"}]', "caps.0.lane: Input should be"),
        ('[{"usd": 1, "per": "day", "action": "shout"}]', "caps.0.action: Input should be 'park' or 'warn'"),
        ('[{"usd": 1, "per": "day", "modle_class": "opus-5"}]', "caps.0.modle_class: unknown field"),
        (
            '[{"usd": 1, "per": "day", "model_class": "claude-opus-5-5"}]',
            "expected model_class to be one of fable-5, haiku-4-5, haiku-5-5, opus-5, sonnet-5, got 'claude-opus-5-5'",
        ),
    ],
)
def test_a_cap_that_cannot_be_meant_is_refused_by_name(caps, says):
    assert says in refusal({"PROMPTMILL_CAPS": caps})


# what is done about alarms --------------------------------------------------------------------------------------------

HOOK = "https://hooks.slack.com/services/T0/B0/SECRET"


def test_actions_stand_in_the_file_and_in_the_environment():
    write(
        f'[[alarm_actions]]\ndo = "notify"\nurl = "{HOOK}"\non = ["alarm", "outage"]\n'
        '[[alarm_actions]]\ndo = "pause_lane"\nmetric = "stray_script"\npause = "overnight"\n'
        '[[alarm_actions]]\ndo = "stop_fallback"\nmodel = "claude-sonnet-5"'
    )
    told, paused, stopped = load().alarm_actions
    assert isinstance(told, Notify)
    assert (told.url.get_secret_value(), told.on) == (HOOK, {"alarm", "outage"})
    assert told.name.startswith("notify hooks.slack.com ")
    assert isinstance(paused, PauseLane)
    assert (paused.metric, paused.pause, paused.name) == ("stray_script", Lane.OVERNIGHT, "pause_lane overnight")
    assert isinstance(stopped, StopFallback)
    assert (stopped.model, stopped.name) == ("claude-sonnet-5", "stop_fallback")
    (told,) = load({"PROMPTMILL_ALARM_ACTIONS": f'[{{"do": "notify", "url": "{HOOK}"}}]'}).alarm_actions
    assert told.on == {"alarm", "spend_cap", "parked", "outage"}


def test_two_webhooks_of_one_host_are_told_apart_without_telling_either():
    one, other = (Notify(do="notify", url=HOOK + path) for path in ("", "2"))
    assert one.name != other.name
    assert "SECRET" not in f"{one.name} {one!r} {one.model_dump_json()} {load(alarm_actions=(one,))!r}"


@pytest.mark.parametrize(
    ("actions", "says"),
    [
        ("SECRET", "alarm_actions: expected JSON, such as [...] or {...}, got something else"),
        ('{"do": "notify", "url": "https://SECRET"}', "alarm_actions: expected a list, got a single one"),
        ('"https://SECRET"', "alarm_actions: expected a list, got something else"),
        ('[{"url": "https://SECRET"}]', "alarm_actions.0: expected 'do', which says what it is, got none"),
        (
            '[{"do": "shout", "url": "https://SECRET"}]',
            "expected 'do' to be one of 'notify', 'stop_fallback', 'pause_lane', 'send_canaries', got 'shout'",
        ),
        ('[{"do": "notify"}]', "alarm_actions.0.notify.url: Field required"),
        ('[{"do": "notify", "url": "SECRET"}]', "expected an address that begins with https:// or http://"),
        ('[{"do": "notify", "url": "ftp://SECRET"}]', "expected an address"),
        ('[{"do": "notify", "url": "https://[SECRET"}]', "expected an address"),
        ('[{"do": "notify", "url": "https:///SECRET"}]', "expected an address"),
        ('[{"do": "notify", "url": "https://SE CRET"}]', "expected an address"),
        ('[{"do": "notify", "url": "https://SECRET:99999"}]', "expected an address"),
        ('[{"do": "notify", "url": "https://SECRET", "on": []}]', "notify.on: expected at least 1, got 0"),
        ('[{"do": "notify", "url": "https://SECRET", "on": "alarm"}]', "notify.on: expected a list, got something"),
        ('[{"do": "notify", "url": "https://SECRET", "on": ["rain"]}]', "alarm_actions.0.notify.on"),
        ('[{"do": "stop_fallback", "url": "https://SECRET"}]', "alarm_actions.0.stop_fallback.url: unknown field"),
        ('[{"do": "pause_lane", "pause": "slow"}]', "alarm_actions.0.pause_lane.pause: "),
        (
            '[{"do": "pause_lane", "metric": "stray_scripts"}]',
            "alarm_actions: expected metric to be the name of one, got 'stray_scripts'; did you mean stray_script?",
        ),
        ('[{"do": "pause_lane", "metric": "x"}]', "got 'x'; known are chars, "),
        (
            '[{"do": "pause_lane", "model": "claude-hiaku-5-5"}]',
            "alarm_actions: model: no rate limits are known for model 'claude-hiaku-5-5'; did you mean 'claude-haiku",
        ),
        ('[{"do": "send_canaries", "rounds": true}]', "alarm_actions.0.send_canaries.rounds: "),
    ],
)
def test_an_action_that_cannot_be_meant_is_refused_by_name_and_its_address_is_not_told(actions, says):
    said = refusal({"PROMPTMILL_ALARM_ACTIONS": actions})
    assert says in said
    assert "SECRET" not in said


def test_an_action_may_be_for_a_metric_that_only_a_worker_can_know():
    actions = '[{"do": "pause_lane", "metric": "our_own"}, {"do": "pause_lane", "metric": "overall"}]'
    assert "our_own" in refusal({"PROMPTMILL_ALARM_ACTIONS": actions})
    ours = {"PROMPTMILL_ALARM_ACTIONS": actions, "PROMPTMILL_QUALITY_PLUGINS": '["our:metric"]'}
    assert [action.metric for action in load(ours).alarm_actions] == ["our_own", "overall"]


def test_the_store_is_a_file_in_the_data_directory_unless_it_is_elsewhere(tmp_path):
    assert load(data_dir=tmp_path).store == f"sqlite:///{tmp_path}/results.sqlite"
    assert load(store_url="postgresql://db/x").store == "postgresql://db/x"
