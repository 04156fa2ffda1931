"""A model that follows a rule (rule.py), in this process or behind real sockets (server.py) with faults on demand
(faults.py, misbehaviour.py, odd_replies.py): what tests and newcomers judge with.
"""
