"""Every paid answer, stored before it is used (ledger.py, over ledger_file.py or segments.py), and what reads ledgers
afterwards (readers.py, rereading.py, audit.py, ledger_sums.py).
"""
