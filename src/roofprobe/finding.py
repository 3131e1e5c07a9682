"""A fault that was found: what it is, where, what shows it, and what mends it."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is stable (``link.socket-fallback``); only the severity ``fault`` makes a command fail."""

    id: str
    severity: Literal["fault", "warning", "info"]
    host: str
    evidence: str
    remedy: str
