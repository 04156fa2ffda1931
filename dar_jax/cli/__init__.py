"""The command line: parsing and printing, nothing else. main.py has the verbs of a run; judging_verbs.py and
comparison_verbs.py the others.
"""
