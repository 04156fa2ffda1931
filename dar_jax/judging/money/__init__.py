"""What judging costs: prices, what one answer cost (spent.py), the budget, totals, and an estimate before a run."""
