"""Costs of compiled programs, counted from their HLO text, whose format is XLA's own and unstable.

hlo_module.py           parsed text
trip_counts.py          trip counts of its loops
instruction_costs.py    FLOPs and bytes of one instruction
costs.py                their sums over a program
"""

from dar_jax.planning.hlo_costs.costs import Costs, ProgramCosts, program_costs

__all__ = ["Costs", "ProgramCosts", "program_costs"]
