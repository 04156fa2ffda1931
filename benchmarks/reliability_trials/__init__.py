"""The trials of benchmarks/reliability.py, a file a kind; each yields outcomes."""
