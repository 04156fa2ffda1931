"""Comparisons of runs that differ only in what is compared, from one initial policy and at equal annotations.

    compare_settings.py  the `compare:` section of a config file
    cells.py             the runs of an experiment: name, grid point, seed
    fairness.py          what they must share; grid.py: points of settings and their names
    running.py           runs as processes, several at once; finished ones are skipped, others resumed
    devices.py           the devices of each process
    measuring.py         the result of one run, read from its folder
    intervals.py         over seeds: means, intervals, annotations to a level
    summary.py           a row an algorithm, with its curve
    comparing.py         the whole experiment, up to its files

An annotation is one question to the training judge, as in budget_annotations: a scalar judgement is one, a pair asked
in both orders two. Answers from the ledger count too.
"""
