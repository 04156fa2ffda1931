"""What is asked: rubrics and criteria, one completion (protocol.py) or two (preference_question.py), as the requests
of a judgement (calls.py); what needs no question (rules.py), and what of a completion is shown (thoughts.py).
"""
