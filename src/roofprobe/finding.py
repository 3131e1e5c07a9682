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


class OwnFinding(Finding, frozen=True, kw_only=True):
    """One whose reason lies on the host that it names, or between those: no fault of another host explains it.

    So it is with a half that its host's own NCCL_IB_HCA leaves out, and not with one that merely idles.
    """
