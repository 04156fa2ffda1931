"""Wires to chat models. Text only: nothing here imports jax.

openai.py         any server with OpenAI's chat completions API
gemini.py         Gemini, through google-genai or the discontinued google-generativeai
scripted/         a rule in this process or behind real sockets, with faults on demand

wire.py           the request and the answer of every wire
decisions.py      typed scores, an optional part: three protocols; token_ids.py for vLLM's exact log-probabilities
failures.py       why a call returned no answer
retry.py          the only retry layer; limits.py and ramp.py, its rates
sending.py        one request of OpenAI's protocol, and its errors
envelope.py       untrusted texts sealed into a question
keys.py           keys and secret headers, which are never printed
"""
