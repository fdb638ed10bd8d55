"""``python -m avff_lib`` is the command ``avff``."""

import sys

from avff_lib.cli import main

sys.exit(main())
