"""Align language models with online AI reward: Direct Advantage Regression in JAX."""

__version__ = "0.2.0"
