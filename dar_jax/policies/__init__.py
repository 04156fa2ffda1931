"""A policy at rest, from a run or a model folder (policy.py): sample from it, chat with it, export it."""
