"""``python -m roofprobe`` is ``roofprobe``."""

from roofprobe.cli import main

raise SystemExit(main())
