"""Runs that never ran: what they would have left."""

from dar_jax.config.config_file import to_yaml
from dar_jax.runlog import RunFolder


def pretend(cell, folder, rewards, *, start=1.0, finished=True):
    """Leave what a run of this cell would, whose evaluations gave these rewards; a step's reward is 2."""
    run = RunFolder.create(folder / cell.place, to_yaml(cell.config))
    row = {
        "rewards/mean": 2.0,
        "objective/kl": 0.5,
        "completions/clipped_ratio": 0.25,
        "judge/billed_calls": 30,
        "judge/ok": 16,
    }
    run.write("metrics", [row | {"step": step + 1, "judge/cost_usd": 0.5} for step in range(cell.config.steps)])
    held_out = [
        {"step": step + 1, "eval/reward": reward, "eval/start_reward": start, "eval/win_rate": 0.5 + reward / 20}
        for step, reward in enumerate(rewards)
    ]
    run.write("evaluations", [row | {"eval/mean_length": 7.0} for row in held_out])
    if finished:
        (run.checkpoints / str(cell.config.steps * cell.config.learning.updates_per_batch)).mkdir(parents=True)
