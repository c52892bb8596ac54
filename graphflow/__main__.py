"""`python -m graphflow` is the `graphflow` command."""

import sys

from graphflow.cli import main

sys.exit(main())
