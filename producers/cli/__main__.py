"""`python -m producers.cli`: the same as `promptmill`, where the interpreter matters more than the PATH."""

from producers.cli.root import main

main()
