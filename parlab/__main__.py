"""``python -m parlab COMMAND``."""

import sys

from parlab.cli import main

sys.exit(main(sys.argv[1:]))
