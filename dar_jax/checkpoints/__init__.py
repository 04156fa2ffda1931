"""Weights and runs on disk: `huggingface` reads and writes models, the rest saves and resumes runs."""
