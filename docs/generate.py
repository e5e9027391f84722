"""Writes the reference pages that are tables of the code's own data. `make docs`; a test fails when one is stale."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

from promptmill import jobs, settings
from promptmill.jobs import MOVES, JobState
from promptmill.queue import keys
from promptmill.settings import PREFIX, Settings
from worker import events
from worker.outcomes import POLICIES, Policy, Verdict
from worker.quality import METRICS
from worker.telemetry.names import COUNTED, SHARED, Described

FOLDER = Path(__file__).parent


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


def states() -> str:
    """Return the states of a job and who moves it."""
    arrows = [f"    {state} --> {target}" for state in JobState for target in sorted(MOVES[state])]
    final = [f"    {state} --> [*]" for state in JobState if not MOVES[state]]
    about = _docstrings(jobs, "JobState")
    rows = [f"| `{state.value}` | {about[state.name]} |" for state in JobState]
    return "\n".join(
        [
            "# States of a job",
            "",
            "Generated from `promptmill.jobs.MOVES`.",
            "",
            "```mermaid",
            "stateDiagram-v2",
            "    [*] --> ready",
            "    [*] --> waiting",
            *arrows,
            *final,
            "```",
            "",
            "| state | who moves it |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def outcomes() -> str:
    """Return what an attempt can come to, and what follows."""
    rows = [
        f"| `{policy.name}` | {policy.says} | {policy.blame} | {policy.verdict.value} "
        f"| {_of_attempts(policy)} | {'yes' if policy.trips else 'no'} | {'yes' if policy.fallback else 'no'} |"
        for policy in POLICIES.values()
    ]
    return "\n".join(
        [
            "# What an attempt can come to",
            "",
            "Generated from `worker.outcomes.POLICIES`. *final*: a dead letter at once, or a fallback; *retry*: again",
            "after a backoff with full jitter; *wait*: likewise, using up no attempt; *pause*: nobody sends on that",
            "budget for a time; *park*: nobody sends until its owner mends something, but one request at every",
            "`probe_interval`. What *trips the breaker* does the same to a model class, 20 in a row, until a probe is",
            "answered. Such a failure uses up an attempt only if others were answered since the job failed before:",
            "in an outage nobody is.",
            "",
            "| outcome | meaning | whose fault | verdict | uses up an attempt | trips breaker | asks another model |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _of_attempts(policy: Policy) -> str:
    if policy.verdict is not Verdict.RETRY:
        return "no"
    return "if others are answered" if policy.trips else "yes"


def settings_page() -> str:
    """Return every setting with its default."""
    about = _docstrings(settings, "Settings")
    rows = []
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or PREFIX + name.upper())
        default = field.get_default(call_default_factory=False)
        shown = "" if default is None or field.default_factory else f"`{_plain(default)}`"
        rows.append(f"| `{variable}` | {shown} | {about.get(name, '')} |")
    return "\n".join(
        [
            "# Settings",
            "",
            "Generated from `promptmill.settings.Settings`. Each can stand in the environment under this name, or in",
            "`promptmill.toml` (or the file that `PROMPTMILL_CONFIG` names) in small letters without the prefix; the",
            "environment wins, options of the command line win over both. Times are seconds.",
            "",
            "| variable | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
            "Limits of one model class, and models that this promptmill does not know:",
            "",
            "```toml",
            "[budgets.haiku-5-5]",
            "rpm = 5000",
            "itpm = 5_000_000",
            "otpm = 1_000_000",
            "",
            "[budgets.our-gateway]",
            'models = ["our-model", "our-model-mini"]',
            "rpm = 300",
            "```",
            "",
            "Caps on spending, in UTC hours and days. `park` (the default) holds back what the cap is for until the",
            "hour or day is over; `warn` says so in the log. Without `lane` or `model_class` a cap is for all of them:",
            "",
            "```toml",
            "[[caps]]",
            "usd = 50",
            'per = "day"',
            "",
            "[[caps]]",
            "usd = 1.50",
            'per = "hour"',
            'lane = "overnight"',
            'model_class = "opus-5"',
            'action = "warn"',
            "```",
            "",
            "Whom to tell and what to do when answers have become worse: see [alarms](guides/alarms.md).",
            "",
            "```toml",
            "[[alarm_actions]]",
            'do = "notify"',
            'url = "https://hooks.slack.com/services/..."',
            "",
            "[[alarm_actions]]",
            'do = "pause_lane"',
            'metric = "stray_script"',
            "```",
            "",
            "Answers that a model is to grade, one in twenty here; see [the guide](guides/quality-plugins.md):",
            "",
            "```toml",
            "[grading]",
            "share = 0.05",
            'model = "claude-sonnet-5-5"',
            'rubric = "Correct, complete, to the point, and in the form that was asked for."',
            "```",
            "",
        ]
    )


def keys_page() -> str:
    """Return the table of Redis keys."""
    return "# Redis keys\n\nGenerated from `promptmill.queue.keys`.\n\n" + inspect.cleandoc(keys.__doc__ or "") + "\n"


def events_page() -> str:
    """Return the table of log events."""
    about = _docstrings(events)
    rows = [f"| `{getattr(events, name)}` | {text} |" for name, text in about.items()]
    head = ["# Log events", "", "Generated from `worker.events`.", "", "| event | fields, and when |", "|---|---|"]
    return "\n".join([*head, *rows, ""])


def metrics() -> str:
    """Return the quality metrics with what each can and cannot see."""
    parts = [
        "# Quality metrics",
        "",
        "Generated from `worker.quality.METRICS`.",
        "",
        "| metric | values | worse when |",
        "|---|---|---|",
        *(f"| [`{metric.name}`](#{metric.name}) | {metric.kind} | {metric.worse} |" for metric in METRICS),
        "",
        "A *flag* is true or false, an *amount* 0 or more without an upper end, a *score* on 0..1. A metric that does",
        "not apply to an answer is null. Beside them stands `instructions`: each instruction that was recognised, and",
        "whether it was followed.",
        "",
    ]
    for metric in METRICS:
        parts += [f"## `{metric.name}`", "", metric.explanation, ""]
    return "\n".join(parts)


def prometheus() -> str:
    """Return what Prometheus can be asked for."""
    return "\n".join(
        [
            "# What Prometheus can be asked for",
            "",
            "Generated from `worker.telemetry.names`. A worker serves them at `/metrics` of",
            "`PROMPTMILL_METRICS_ADDRESS`, all of its processes together. As usual a counter's name gets `_total`,",
            "a summary's `_sum` and `_count`, a histogram's those two and `_bucket`. Every label has few values:",
            "models and model classes, three lanes, the outcomes of [outcomes.md](outcomes.md), the metrics of",
            "[metrics.md](metrics.md), at most 30 kinds of prompts. No metric holds a prompt, an answer, the id of a",
            "job or a key. deploy/ has alerts and a Grafana dashboard that use them, and DataDog's configuration.",
            "",
            "## Counted by each worker: add them up",
            "",
            *_described(COUNTED),
            "",
            "## Shared by all workers: every one tells the same, take the maximum",
            "",
            "What is away is left out: `promptmill_redis_up` or `promptmill_store_up` is 0, the rest of it missing.",
            "",
            *_described(SHARED),
            "",
        ]
    )


def _described(table: Mapping[str, Described]) -> list[str]:
    rows = [
        f"| `{name}` | {it.type} | {', '.join(f'`{label}`' for label in it.labels)} | {it.says} |"
        for name, it in table.items()
    ]
    return ["| metric | type | labels | meaning |", "|---|---|---|---|", *rows]


PAGES: dict[str, Callable[[], str]] = {
    "states.md": states,
    "outcomes.md": outcomes,
    "settings.md": settings_page,
    "keys.md": keys_page,
    "events.md": events_page,
    "metrics.md": metrics,
    "prometheus.md": prometheus,
}


def _docstrings(module: object, class_name: str | None = None) -> dict[str, str]:
    """Return the strings that stand under the assignments of a module or of one of its classes, by name."""
    body = ast.parse(inspect.getsource(module)).body  # type: ignore[arg-type]
    if class_name is not None:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == class_name)
    found: dict[str, str] = {}
    name = ""
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            found[name] = ""
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            found[name] = ""
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            found[name] = " ".join(str(node.value.value).split())
            name = ""
        else:
            name = ""
    return found


def _plain(value: object) -> object:
    return f"{value.total_seconds():g}" if hasattr(value, "total_seconds") else value


if __name__ == "__main__":
    main()
