"""What comes back: one answer read (parsing.py), what became of a question (outcomes.py), and the verdict of a
judgement (scalar.py, pairwise.py) or of several (combining.py).
"""
