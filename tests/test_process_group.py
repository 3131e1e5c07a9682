"""A rank's place among the others, from the variables of each launcher."""

from __future__ import annotations

import re

import pytest

from roofprobe.collectives.process_group import Place, find_place
from roofprobe.errors import BadInput


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        (
            {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"},
            Place(1, 4, 0, "10.0.0.1", 1234),
        ),
        (
            {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
             "MASTER_ADDR": "a"},
            Place(3, 4, 1, "a", 29500),
        ),
        (
            {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0", "MASTER_ADDR": "a"},
            Place(0, 2, 0, "a", 29500),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Place(0, 1, None, "127.0.0.1", 0)),
    ],
    ids=["none", "torchrun", "mpirun", "srun", "a batch script is no rank", "one rank by hand"],
)  # fmt: skip
def test_a_rank_finds_its_place(variables: dict[str, str], place: Place | None) -> None:
    assert find_place(variables) == place


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "0"}, "WORLD_SIZE is not set"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE is 2"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR is not set"),
    ],
)
def test_an_unusable_place_is_told(variables: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=re.escape(words)):
        find_place(variables)
