"""The questions to a judge: rubrics and criteria, about one completion (protocol.py) or two (preference_question.py),
as the requests of a judgement (calls.py). Some completions need none (rules.py); thoughts are hidden (thoughts.py).
"""
