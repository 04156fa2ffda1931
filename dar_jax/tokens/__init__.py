"""Between words and token ids: chat template, BOS, end tokens, padding. Never imports jax.

Token ids that the sampler drew reach the learner as they are; text is for people and judges.
Nothing downstream may find padding or the end of a completion by comparing ids: masks and lengths
travel with the tokens, so that a pad id that equals EOS does no harm.
"""

from dar_jax.tokens.padding import pad
from dar_jax.tokens.template import THOUGHT_END, thought_start
from dar_jax.tokens.tokenizer import Tokenizer
from dar_jax.tokens.tokenizer_files import generation_settings
from dar_jax.tokens.tokenizer_settings import TokenizerSettings

__all__ = ["THOUGHT_END", "Tokenizer", "TokenizerSettings", "generation_settings", "pad", "thought_start"]
