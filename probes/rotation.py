"""Launches over copies of a case's operands in turn, and which copies' outputs the timed ones wrote.

A check must look at those and no others: an output that was poisoned after the warm-up and never written again is no
error, and one that is not looked at is no proof. What was called after the poison tells, but for a CUDA graph, whose
samples are replays without a call: there it is the calls under the last capture, however few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Rotation:
    """`run` on copy 0, 1, 2 … of the operands, one a launch; each copy has its output."""

    def __init__(
        self,
        run: Callable[[int], object],
        outputs: Sequence[torch.Tensor],
        poison: float,
        capturing: Callable[[], bool] | None = None,
    ) -> None:
        """`capturing` says whether a call is being recorded into a CUDA graph, in place of being carried out; None
        asks torch about the outputs' device."""
        self._run = run
        self._outputs = outputs
        self._poison = poison
        self._capturing = capturing or (_capturing if outputs[0].is_cuda else lambda: False)
        self._called: set[int] = set()
        self._captured: set[int] = set()

    def launch(self, count: int) -> None:
        """Launch number `count`."""
        copy = count % len(self._outputs)
        if self._capturing():
            self._captured.add(copy)
        else:
            self._called.add(copy)
            self._captured.clear()  # a warm-up, or what is called because its capture has failed
        self._run(copy)

    def poison(self) -> None:
        """Spoils every output: what is there afterwards was written afterwards."""
        self._called.clear()
        for output in self._outputs:
            output.fill_(self._poison)

    def written(self) -> list[int]:
        """The copies that launches have written since the outputs were poisoned."""
        found = sorted(self._called | self._captured)
        assert found, "nothing ran since the outputs were poisoned"
        return found


def _capturing() -> bool:
    import torch

    return torch.cuda.is_current_stream_capturing()
