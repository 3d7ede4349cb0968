"""``python -m hear_byols`` is ``hear-byols``."""

import sys

from hear_byols.cli.main import main

sys.exit(main())
