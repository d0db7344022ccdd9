"""`python -m bevstack`."""

import sys

from bevstack.cli.main import main

sys.exit(main())
