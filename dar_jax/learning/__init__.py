"""Parts of the learner: log-probs (scoring.py), optimizers, and the state with its trainable heads."""
