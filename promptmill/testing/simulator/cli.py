"""The command line of the simulator: `promptmill simulate`, or `python -m promptmill.testing.simulator`.

Imports no server: mounting the command costs nothing, and works without the `simulator` extra.
"""

import asyncio
import signal
from datetime import timedelta
from typing import Any

import click
from pydantic import ValidationError

from promptmill.testing.simulator.config import (
    TIERS,
    Answers,
    FaultRule,
    ForeignLoad,
    Latency,
    Limits,
    SimulatorConfig,
)
from promptmill.testing.simulator.faults import FAULTS
from promptmill.testing.simulator.models import ModelClass


class _Fault(click.ParamType[FaultRule]):
    """`NAME`, `NAME=PROBABILITY`, `NAME@1,5,9` or `NAME:AFTER:LASTING`."""

    name = "fault"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> FaultRule:
        if isinstance(value, FaultRule):
            return value
        text = str(value)
        try:
            return self._parsed(text)
        except ValidationError as error:
            self.fail(_reason(error), param, ctx)
        except ValueError:
            self.fail(f"expected NAME, NAME=PROBABILITY, NAME@1,5,9 or NAME:AFTER:LASTING, got {text!r}", param, ctx)

    @staticmethod
    def _parsed(text: str) -> FaultRule:
        if "=" in text:
            name, _, probability = text.partition("=")
            return FaultRule(fault=name, probability=float(probability))
        if "@" in text:
            name, _, numbers = text.partition("@")
            return FaultRule(fault=name, requests=frozenset(int(number) for number in numbers.split(",")))
        if ":" in text:
            name, after, lasting = text.split(":")
            return FaultRule(
                fault=name, after=timedelta(seconds=float(after)), lasting=timedelta(seconds=float(lasting))
            )
        return FaultRule(fault=text)


def _list_faults(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if not value or ctx.resilient_parsing:
        return
    width = max(len(name) for name in FAULTS)
    for fault in FAULTS.values():
        click.echo(f"{fault.name:{width}}  {fault.does}")
    ctx.exit()


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8010, type=click.IntRange(0, 65_535), help="Port to listen on; 0: any free one.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="The same seed gives the same answers.")
@click.option(
    "--tier",
    default="start",
    type=click.Choice(list(TIERS)),
    help="Rate limits of a usage tier, for every model class; none: no limits.",
)
@click.option("--rpm", type=click.IntRange(min=0), help="Requests a minute, instead of the tier's; 0: no limit.")
@click.option("--itpm", type=click.IntRange(min=0), help="Input tokens a minute, likewise.")
@click.option("--otpm", type=click.IntRange(min=0), help="Output tokens a minute, likewise.")
@click.option("--burst", type=click.IntRange(min=1), help="Depth of the bucket in requests, instead of --depth.")
@click.option(
    "--depth", default=60.0, type=click.FloatRange(min=0), help="Depth of the buckets, in seconds of refilling."
)
@click.option("--count-rpm", type=click.IntRange(min=1), help="Limit of token counting a minute. [default: no limit]")
@click.option("--charge-max-tokens", is_flag=True, help="Charge max_tokens up front, as until February 2026.")
@click.option(
    "--foreign-load", type=click.FloatRange(min=0, min_open=True), help="Share of the account somebody else uses."
)
@click.option("--foreign-period", type=click.FloatRange(min=0.1), help="Seconds: make that a square wave.")
@click.option("--latency", default=0.4, type=click.FloatRange(min=0), help="Median time to the first byte, in seconds.")
@click.option("--latency-sigma", default=0.4, type=click.FloatRange(min=0), help="Its spread (lognormal).")
@click.option(
    "--per-token", default=8.0, type=click.FloatRange(min=0), help="Time of an output token, in milliseconds."
)
@click.option("--latency-scale", default=1.0, type=click.FloatRange(min=0), help="Multiplies all latency; 0: none.")
@click.option("--tokens", default=120, type=click.IntRange(min=1), help="Mean length of an answer, in tokens.")
@click.option("--tokens-sigma", default=0.6, type=click.FloatRange(min=0), help="Its spread; 1 and more: a heavy tail.")
@click.option("--reject-key", "rejected_keys", multiple=True, metavar="KEY", help="Answer 401 to this API key.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=_Fault(),
    metavar="RULE",
    help="NAME (always), NAME=0.05 (probability), NAME@1,5,9 (these requests) or NAME:60:30 "
    "(an outage: after 60 s, lasting 30 s). Can be given many times; the first that strikes wins.",
)
@click.option("--track", is_flag=True, help="Count by x-promptmill-job header and by content: GET /stats?keys=1.")
@click.option(
    "--list-faults",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="Print the names of all faults and exit.",
)
def simulate(**options: Any) -> None:
    """Simulate the Claude Messages API on this machine, for free.

    It keeps real rate limits, sends the real headers, streams, takes time and goes wrong on demand. Any non-empty
    API key is good. Prints one line that ends with its URL once it is ready; stops on Ctrl-C or SIGTERM.

    \b
      GET  /stats     what really arrived
      POST /control   change limits, latency and faults while it runs, e.g.
                      {"limits": {"rpm": 60}, "faults": [{"fault": "overloaded_error", "lasting": 30}]}

    A prompt can ask for a fault itself: [[fault:overloaded_error]], or [[fault:hang*2]] for its first two arrivals.
    """  # noqa: D301 - click wants the backspace itself
    try:
        config = _config(**options)
    except ValidationError as error:
        raise click.UsageError(_reason(error)) from None
    try:
        asyncio.run(_serve(config))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from None


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    try:
        simulate.main(args=argv, prog_name="simulate", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as done:
        return done.exit_code
    return 0


def _reason(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def _config(**options: Any) -> SimulatorConfig:
    changes = {name: options[name] or None for name in ("rpm", "itpm", "otpm") if options[name] is not None}
    changes |= {"depth": timedelta(seconds=options["depth"]), "burst": options["burst"]}
    tier = TIERS[options["tier"]]
    foreign_period = options["foreign_period"]
    return SimulatorConfig(
        host=options["host"],
        port=options["port"],
        seed=options["seed"],
        track=options["track"],
        class_limits={
            model_class: Limits(**{**dict(tier.get(model_class, Limits())), **changes}) for model_class in ModelClass
        },
        count_tokens_rpm=options["count_rpm"],
        charge_max_tokens=options["charge_max_tokens"],
        latency=Latency(
            first_byte=timedelta(seconds=options["latency"]),
            sigma=options["latency_sigma"],
            per_token=timedelta(milliseconds=options["per_token"]),
            scale=options["latency_scale"],
        ),
        answers=Answers(mean_tokens=options["tokens"], sigma=options["tokens_sigma"]),
        faults=options["faults"],
        foreign_load=None
        if options["foreign_load"] is None
        else ForeignLoad(
            share=options["foreign_load"],
            period=None if foreign_period is None else timedelta(seconds=foreign_period),
        ),
        rejected_keys=frozenset(options["rejected_keys"]),
    )


async def _serve(config: SimulatorConfig) -> None:
    """Run until told to stop."""
    try:
        from promptmill.testing.simulator.simulator import Simulator  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}; install promptmill[simulator]") from None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    async with Simulator(config) as simulator:
        click.echo(f"Simulator of the Claude API ready at {simulator.base_url}")
        await stop.wait()
