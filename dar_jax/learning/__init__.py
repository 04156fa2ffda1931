"""What the learner is made of: log-probs (scoring.py), optimizers, trainable heads, and the state that is saved."""
