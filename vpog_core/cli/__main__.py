"""Run `vpog` as `python -m vpog_core.cli`."""

from vpog_core.cli import main

raise SystemExit(main())
