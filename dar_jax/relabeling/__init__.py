"""Judge a file of completions without a run: at once (relabel.py), or through a Batch API (batch_jobs.py,
batched_judge.py).
"""
