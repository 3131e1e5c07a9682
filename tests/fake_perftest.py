"""A stand-in for perftest's tools: real processes and sockets, made-up figures, output in perftest's own form.

Installed as ``ib_write_bw`` and ``ib_write_lat``. The server waits for a client, as perftest's does. FAKE_PERFTEST
says what goes wrong: ``hang`` (both), ``fail`` (the server ends at once), ``junk`` (no table).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import socket
import sys
import time

RULE = "-" * 87
RATES = {"rocep1s0f0": 92.57, "roceP2p1s0f0": 97.28}
HALF_ROUND_TRIP_US = 4.21

INFO = f"""{RULE}
                    RDMA_Write {{kind}} Test
 Dual-port       : OFF\t\tDevice         : {{device}}
 Number of qps   : 1\t\tTransport type : IB
 Connection type : RC\t\tUsing SRQ      : OFF
 PCIe relax order: ON
 ibv_wr* API     : ON
 TX depth        : 128
 CQ Moderation   : 1
 Mtu             : 4096[B]
 Link type       : Ethernet
 GID index       : 3
 Max inline data : 0[B]
 rdma_cm QPs\t : OFF
 Data ex. method : Ethernet
{RULE}
 local address: LID 0000 QPN 0x0128 PSN 0x5dbf2b RKey 0x1fff00 VAddr 0x00ffff8a000000
 GID: 00:00:00:00:00:00:00:00:00:00:255:255:10:01:00:02
 remote address: LID 0000 QPN 0x0127 PSN 0xd0ad6e RKey 0x1fff00 VAddr 0x00ffff9a000000
 GID: 00:00:00:00:00:00:00:00:00:00:255:255:10:01:00:01
{RULE}
"""

BANDWIDTH_2022 = """ #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]
 1048576    11035            0.00               {rate:<7.2f}\t\t   0.011035
"""
BANDWIDTH_2026 = """ #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]
 1048576    11035            0.00               {rate:<7.2f}\t\t     0.011035
"""
LATENCY = """ #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]   99% percentile[usec]   99.9% percentile[usec] 
 8       2000          3.98           19.75        {us:<7.2f}  \t       4.25     \t0.00   \t\t4.89    \t\t12.11  
"""  # noqa: E501, W291 - perftest's own blanks


def output(tool: str, device: str, release: int = 2026) -> str:
    """What a client prints."""
    if tool == "ib_write_lat":
        return INFO.format(kind="Latency", device=device) + LATENCY.format(us=HALF_ROUND_TRIP_US) + RULE + "\n"
    table = BANDWIDTH_2022 if release == 2022 else BANDWIDTH_2026
    return INFO.format(kind="BW", device=device) + table.format(rate=RATES[device]) + RULE + "\n"


def install(folder: Path) -> None:
    """Puts both tools into `folder`, to be first on PATH."""
    for tool in ("ib_write_bw", "ib_write_lat"):
        path = folder / tool
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{Path(__file__).resolve()}" {tool} "$@"\n')
        path.chmod(0o755)


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("tool")
    for flag in ("-d", "-i", "-p", "-x", "-s", "-D", "-n"):
        parser.add_argument(flag)
    parser.add_argument("-F", action="store_true")
    parser.add_argument("--report_gbits", action="store_true")
    parser.add_argument("server", nargs="?")
    given = parser.parse_intermixed_args()  # the server may follow the flags
    wrong = os.environ.get("FAKE_PERFTEST", "")
    if wrong == "hang":
        time.sleep(600)
    if given.server is None:
        if wrong == "fail":
            print("IB device rocep1s0f0 not found\n Unable to find the Infiniband/RoCE device")
            return 1
        with socket.create_server(("127.0.0.1", int(given.p))) as listener:
            listener.settimeout(30)
            peer, _ = listener.accept()
            peer.recv(1)
    else:
        with socket.create_connection((given.server, int(given.p)), timeout=5) as peer:
            peer.sendall(b"x")
    sys.stdout.write("Couldn't allocate MR\n" if wrong == "junk" else output(given.tool, given.d))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
