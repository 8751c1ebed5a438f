"""``python -m deeper`` is the command ``deeper``."""

import sys

from deeper.cli.main import main

sys.exit(main())
