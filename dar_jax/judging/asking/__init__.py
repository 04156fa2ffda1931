"""Asking: from settings to an open judge (open_judge.py), the mode each judge can answer in (probing.py), and one
wire of it with its ledger and budget (seat.py).
"""
