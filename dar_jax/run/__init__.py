"""What the spine works with at each step: the judge of all hosts, held-out evaluation, restoring, reports."""
