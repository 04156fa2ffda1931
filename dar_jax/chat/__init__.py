"""Wires to chat models. Text only: nothing here imports jax.

One request passes through
wire.py           the request and the answer of every wire
openai.py         any server with OpenAI's chat completions API; gemini.py: Gemini, through gemini_sdk.py (google-genai)
                  or gemini_legacy.py (the discontinued google-generativeai)
retry.py          the only retry layer; limits.py: concurrency and rates; failures.py: why a call has no answer
sending.py        one HTTP request; connections.py and ramp.py: how its connection is opened
openai_reply.py   the parsed reply; reply.py: what replies of all protocols share

envelope.py       untrusted texts sealed into a question
keys.py           keys and secret headers, which are never printed; endpoint.py: the settings that refer to them
background.py     the event loop of a judge, in a thread
openai_batches.py OpenAI's Batch API

Optional: decisions.py sends typed decisions, by three protocols; everything else works without.

scripted/         a rule in place of a model, in this process or behind real sockets, with faults on demand
"""
