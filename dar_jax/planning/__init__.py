"""Plan a run before it starts: compile its programs for a TPU slice, without a TPU, and estimate their costs.

make_plan(config, topology("v5e:2x4"), progress)    a Plan: bytes, FLOPs, seconds, judge calls, dollars
suggest_changes(config, plan, progress)             changes with which a run fits that does not
"""

from dar_jax.planning.advice import Suggestion, suggest_changes
from dar_jax.planning.judge_demand import Assumptions
from dar_jax.planning.plan import Plan, make_plan
from dar_jax.planning.topologies import topology

__all__ = ["Assumptions", "Plan", "Suggestion", "make_plan", "suggest_changes", "topology"]
