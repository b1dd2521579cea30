"""``python -m parlab COMMAND``."""

from __future__ import annotations

import sys

from parlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
