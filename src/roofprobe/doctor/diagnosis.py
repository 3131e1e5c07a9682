"""Runs every rule over a case and tells causes from their consequences."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from roofprobe.doctor.case import Case
from roofprobe.doctor.causes import fold, once
from roofprobe.doctor.collective_hang import collective_hang
from roofprobe.doctor.containers import socket_fallback
from roofprobe.doctor.link_addresses import address_duplicate
from roofprobe.doctor.link_counters import flapping
from roofprobe.doctor.link_gid import gid_wrong
from roofprobe.doctor.link_halves import halves_one_subnet, one_half
from roofprobe.doctor.link_interfaces import interface_wrong
from roofprobe.doctor.link_state import pcie_narrow, port_down, port_slow
from roofprobe.doctor.link_symmetry import firmware_differs, mtu_mismatch, mtu_small, nic_asymmetry
from roofprobe.doctor.measured_link import measured_link
from roofprobe.doctor.measured_ranks import proven_faults, slow_rank
from roofprobe.doctor.nccl_addresses import logged_gid, logged_interface
from roofprobe.doctor.nccl_errors import memory_not_locked, port_lost, retries_exhausted
from roofprobe.doctor.nccl_start import init_stuck, version_mismatch
from roofprobe.doctor.nccl_transport import logged_asymmetry, logged_half, logged_sockets
from roofprobe.doctor.sampling_rules import samplings
from roofprobe.doctor.software_rules import ptxas_too_old
from roofprobe.finding import Finding

Rule = Callable[[Case], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    port_down,
    port_slow,
    pcie_narrow,
    interface_wrong,
    gid_wrong,
    halves_one_subnet,
    address_duplicate,
    one_half,
    nic_asymmetry,
    mtu_mismatch,
    mtu_small,
    flapping,
    firmware_differs,
    socket_fallback,
    logged_interface,
    logged_gid,
    logged_half,
    logged_asymmetry,
    logged_sockets,
    port_lost,
    memory_not_locked,
    retries_exhausted,
    measured_link,
    version_mismatch,
    init_stuck,
    collective_hang,
    proven_faults,
    slow_rank,
    ptxas_too_old,
    samplings,
)
"""In the order in which findings of one severity are shown: the link, NCCL, the unit, the readings."""

_ORDER = {"fault": 0, "warning": 1, "info": 2}


def diagnose(case: Case) -> tuple[Finding, ...]:
    """Every finding, each cause once with its consequences in its evidence; faults first."""
    found = dict.fromkeys(finding for rule in RULES for finding in rule(case))
    return tuple(sorted(fold(once(tuple(found)), case), key=lambda finding: _ORDER[finding.severity]))
