"""A chat model that follows a rule instead of weights, for tests and first runs.

rule.py           the model, and its wire in this process
server.py         the same model behind an HTTP server; dialects.py and, for typed decisions, decision_dialects.py: its
                  protocols; batch_server.py: OpenAI's batches
faults.py         faults on demand, and answers with one; misbehaviour.py: failures of HTTP; odd_replies.py: odd JSON
scorers/          the rules
"""
