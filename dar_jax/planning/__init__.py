"""A run before it runs: its programs compiled for a TPU slice that is not there, and what they take.

make_plan(config, topology("v5e:2x4"), tell)    a Plan: bytes, FLOPs, seconds, judge calls, dollars
ways_out(config, plan, tell)                    what to change where it does not fit
"""

from dar_jax.planning.advice import Way, ways_out
from dar_jax.planning.judge_demand import Assumptions
from dar_jax.planning.plan import Plan, make_plan
from dar_jax.planning.topologies import topology

__all__ = ["Assumptions", "Plan", "Way", "make_plan", "topology", "ways_out"]
