"""`python -m workers.replay …` is `pagemill dlq …`."""

from __future__ import annotations

import sys

from workers.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["dlq"]
    main()
