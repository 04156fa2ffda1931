"""Policies outside of training, from a run or a model folder (policy.py): sample, chat, export."""
