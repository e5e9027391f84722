"""`python -m promptmill.testing.simulator`."""

import sys

from promptmill.testing.simulator.cli import main

sys.exit(main())
