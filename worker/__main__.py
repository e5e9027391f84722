"""`python -P -m worker`: one worker process, or a supervisor of several. Settings come from the environment."""

from __future__ import annotations

import asyncio
import sys

import click

from promptmill.errors import PromptmillError
from promptmill.settings import Settings
from worker.logs import configure_logs
from worker.supervisor import BAD_CONFIGURATION, supervise
from worker.telemetry import exposition


@click.command()
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Worker processes.")
@click.option("--burst", is_flag=True, help="Stop when the queue is empty.")
@click.option("--stop-with-parent", is_flag=True, help="Stop when the process that started this one is gone.")
def main(*, processes: int, burst: bool, stop_with_parent: bool) -> None:
    """Drain the queue that PROMPTMILL_REDIS_URL names. `promptmill worker` has more options."""
    try:
        settings = Settings.load()
        configure_logs(settings)
        with exposition(settings):
            if processes > 1 or stop_with_parent:  # somebody waits for its work: one that dies is replaced
                fleet = supervise(processes, burst=burst, stop_with_parent=stop_with_parent)
                sys.exit(asyncio.run(fleet))
            from worker.main import build_worker  # noqa: PLC0415 - a supervisor has no use for seconds of imports

            build_worker(settings, burst=burst).run()
    except PromptmillError as error:
        click.echo(f"promptmill: {error}", err=True)
        sys.exit(BAD_CONFIGURATION)


if __name__ == "__main__":
    main()
