"""The cost of judging: prices, spend and totals (spent.py), the budget, and the estimate before a run."""
