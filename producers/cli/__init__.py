"""The command line: `promptmill`. One module for each command; each parses, calls and prints, and decides nothing."""

from producers.cli.root import main

__all__ = ["main"]
