"""``python -m parlab.synth``: make a corpus of synthetic speech."""

from __future__ import annotations

import sys

from parlab.synth.corpus import main

if __name__ == "__main__":
    sys.exit(main())
