"""Answers of a judge: parse one (parsing.py), the outcome of a question (outcomes.py), the verdict of a judgement
(judgement.py) and of several (combining.py).
"""
