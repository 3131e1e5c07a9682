"""What the kernel benchmarks share: the sides that this machine has, with arrays sized from what is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from roofprobe.environment import read_environment
from roofprobe.errors import RoofprobeError
from roofprobe.probes.memory import StreamBuffers, allocate
from roofprobe.probes.sides import MeasuredSide, find_sides

if TYPE_CHECKING:
    from roofprobe.measurement import Side


@pytest.fixture(scope="session", params=["device", "host"])
def side(request: pytest.FixtureRequest) -> MeasuredSide:
    wanted: Side = request.param
    try:
        (found,), _ = find_sides(read_environment(), wanted)
    except RoofprobeError as error:
        pytest.skip(str(error))
    return found


@pytest.fixture(scope="session")
def buffers(side: MeasuredSide) -> StreamBuffers:
    """Two arrays that outgrow the cache; they hold for a session, as a run's do."""
    return allocate(side, arrays=2)
