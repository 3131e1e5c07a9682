"""The bugs that `scripts/mutation_check` plants, each of a kind that such kernels have had, and the tests for it.

A selection is as narrow as it can be and still catch its bug. `test_mutation_check.py` keeps every text findable.
"""

from mutants_checks import CHECK_MUTANTS
from mutants_dequant import DEQUANT_MUTANTS
from mutants_gemv import GEMV_MUTANTS
from mutants_host import HOST_MUTANTS

MUTANTS = [*DEQUANT_MUTANTS, *HOST_MUTANTS, *GEMV_MUTANTS, *CHECK_MUTANTS]
