"""The wires to a model that answers. Words only: nothing here imports jax.

openai.py         any server that speaks OpenAI's chat completions
gemini.py         Gemini through google-genai, or through the ended google-generativeai
scripted.py       a rule in this process

wire.py           the request and the answer that all of them carry
decisions.py      typed scores: three protocols; token_ids.py, vLLM's exact log-probabilities
errors.py         why a call gave no answer
retry.py          the one retry layer; limits.py, its gate
sending.py        one request of OpenAI's protocol, and its errors
envelope.py       how untrusted texts are sealed into a question
server.py         the scripted model behind real sockets; dialects.py, decision_dialects.py: what it speaks; faults.py,
                  misbehaviour.py: what goes wrong on demand
"""
