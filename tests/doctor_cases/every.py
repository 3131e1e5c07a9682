"""All cases, and the ids that they have to cover."""

from __future__ import annotations

from doctor_cases.clean_cases import CLEAN_CASES
from doctor_cases.clean_traps import TRAPS
from doctor_cases.combined_faults import COMBINED
from doctor_cases.crossing import CROSSING
from doctor_cases.link_faults import LINK_FAULTS
from doctor_cases.log_faults import LOG_FAULTS
from doctor_cases.two_hosts import TWO_HOSTS
from doctor_cases.unit_faults import UNIT_FAULTS

IDS = (
    *(
        f"link.{name}"
        for name in ("socket-fallback", "one-half", "nic-asymmetry", "port-down", "port-slow", "nic-slow")
    ),
    *(f"link.{name}" for name in ("pcie-narrow", "gid-wrong", "mtu-mismatch", "interface-wrong", "halves-one-subnet")),
    *("link.flapping", "nccl.version-mismatch", "nccl.init-stuck", "collective.hang"),
    *(f"unit.{name}" for name in ("slow-rank", "low-power-state", "hidden-slow-state", "thermal", "periodic-stall")),
    *("link.address-duplicate", "nccl.memlock-limit"),
    *("software.ptxas-too-old", "reading.implausible", "reading.inconclusive"),
)
FAULTS = [*LINK_FAULTS, *LOG_FAULTS, *UNIT_FAULTS, *COMBINED, *TWO_HOSTS, *CROSSING]
CLEAN = [*CLEAN_CASES, *TRAPS]
