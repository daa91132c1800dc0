"""`python -m vpog_core.cli` does what `vpog` does."""

from vpog_core.cli import main

raise SystemExit(main())
