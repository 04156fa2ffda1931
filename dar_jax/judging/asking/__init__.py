"""Open a judge from its settings (open_judge.py), probe its answer mode (probing.py), and ask over one wire with ledger
and budget (seat.py).
"""
