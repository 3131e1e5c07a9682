"""Bugs of the checks themselves, of the probes, of the exact check of collectives and of the checkpoint reader."""

from mutation_check import Mutant

CHECKS = ("tests/test_kernel_checks.py",)
STREAM = ("tests/test_stream_triton.py::test_the_checker_sees",)
ROTATION = ("tests/test_rotation.py",)
COLLECTIVE = ("tests/test_exact.py",)
CHECKPOINT = ("tests/test_checkpoint.py::test_every_layout_gives_its_values",)

CHECK_MUTANTS = [
    # -- the checks themselves
    Mutant(
        "check-ignores-nan", "kernels/gemv_check.py",
        "wrong += (~((low <= found) & (found <= high))).sum()", "wrong += ((found < low) | (found > high)).sum()",
        CHECKS, "a NaN compares false with everything: poison passes",
    ),
    Mutant(
        "check-too-wide", "kernels/gemv_check.py",
        "UNIT_ROUNDOFF = 2.0**-24", "UNIT_ROUNDOFF = 2.0**-12",
        CHECKS, "the tolerance of a 12-bit sum",
    ),
    Mutant(
        "check-sees-one-chunk", "kernels/rows.py",
        "for start in range(0, n, step):", "for start in range(0, min(n, step), step):",
        CHECKS, "rows after the first chunk are never looked at",
    ),
    Mutant(
        "check-forgives-any-nan", "kernels/dequant_check.py",
        "both_nan = found.isnan() & expected.isnan()", "both_nan = found.isnan() | expected.isnan()",
        CHECKS, "a NaN in place of a number passes",
    ),
    Mutant(
        "stream-check-by-value", "kernels/stream_check.py",
        "(inputs[0] + scalar * inputs[1] if op == \"triad\" else inputs[0]).view(torch.int32)",
        "(inputs[0] + scalar * inputs[0] if op == \"triad\" else inputs[0]).view(torch.int32)",
        STREAM, "triad is replayed with one array for both",
    ),
    # -- what is checked: the outputs that the timed launches wrote
    Mutant(
        "no-poison", "probes/rotation.py",
        "        for output in self._outputs:\n            output.fill_(self._poison)\n", "",
        ROTATION, "what the warm-up left passes for what was timed",
    ),
    Mutant(
        "warm-up-counts-as-timed", "probes/rotation.py",
        "        self._called.clear()\n", "",
        ROTATION, "copies that only the warm-up wrote are called wrong",
    ),
    Mutant(
        "half-captured-counts-as-timed", "probes/rotation.py",
        "            self._captured.clear()", "            pass",
        ROTATION, "what a failed capture had begun with is called wrong",
    ),
    Mutant(
        "replays-do-not-count", "probes/rotation.py",
        "sorted(self._called | self._captured)", "sorted(self._called)",
        ROTATION, "nothing of a CUDA graph is checked",
    ),
    # -- the exact check of collectives
    Mutant(
        "collective-check-by-value", "collectives/exact.py",
        "(buffer[at : at + n].view(bits) != must_be.view(bits))", "(buffer[at : at + n] != must_be)",
        COLLECTIVE, "a zero with the wrong sign passes",
    ),
    Mutant(
        "collective-check-sees-one-chunk", "collectives/exact.py",
        "        for start in range(0, piece.count, CHUNK):",
        "        for start in range(0, min(piece.count, CHUNK), CHUNK):",
        COLLECTIVE, "elements after the first chunk are never looked at",
    ),
    Mutant(
        "collective-check-repeats-a-chunk", "collectives/exact.py",
        "            at += n\n", "            at = start\n",
        COLLECTIVE, "a chunk is held against the one before it",
    ),
    Mutant(
        "collective-expected-lacks-a-rank", "collectives/exact.py",
        "for rank in range(1, self.world_size):", "for rank in range(1, self.world_size - 1):",
        COLLECTIVE, "the last rank's inputs are not part of the sum",
    ),
    Mutant(
        "collective-seed-ignored", "collectives/exact.py",
        "x = (rank * 0x9E3779B1 + seed * 0x7FEB352D + 0x1B873593) & _MASK",
        "x = (rank * 0x9E3779B1 + 0x1B873593) & _MASK",
        COLLECTIVE, "an earlier iteration's result passes",
    ),
    Mutant(
        "collective-source-ignored", "collectives/exact.py",
        "            return self.inputs(source, start, stop, seed, device)",
        "            return self.inputs(0, start, stop, seed, device)",
        COLLECTIVE, "whichever rank a piece comes from, rank 0's is expected",
    ),
    Mutant(
        "collective-pattern-repeats", "collectives/exact.py",
        "index = torch.arange(start, stop, dtype=torch.int64, device=device)",
        "index = torch.arange(start, stop, dtype=torch.int64, device=device) % 1024",
        COLLECTIVE, "inputs with a period: a shifted result passes",
    ),
    # -- checkpoints
    Mutant(
        "expert-zero-for-all", "kernels/checkpoint.py",
        "tensor = tensor[expert]", "tensor = tensor[0]",
        CHECKPOINT, "every expert is the first",
    ),
    Mutant(
        "makers-confused", "kernels/checkpoint.py",
        'if weight.maker == "ModelOpt" else', 'if weight.maker != "ModelOpt" else',
        CHECKPOINT, "ModelOpt's scale divides and compressed-tensors' multiplies",
    ),
]  # fmt: skip
