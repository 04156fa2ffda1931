"""Several runs that differ in what is compared and in nothing else: from one start, for as many annotations each.

    settings.py     the `compare:` section of a config file
    plan.py         the cells: a cell is one run, with its name, its point of a grid, its seed
    fairness.py     what all of them share; grid.py: points of settings, and their names
    running.py      cells as processes, several at once; finished ones are skipped, others go on
    devices.py      each process its share of the devices
    measuring.py    what one cell has reached, read from its folder
    statistics.py   over seeds: means, intervals, annotations to a level
    summary.py      a row an algorithm, with its curve
    comparing.py    all of it in a row, down to the files that are left

An annotation is one question to the training judge, as budget_annotations counts: a scalar judgement is one, a pair
asked in both orders two. What the ledger answers for nothing counts like any other.
"""
