"""The parts of a run that the spine works with: session, run folder, judge, evaluation, resume, reports."""
