"""Small tokenizers of HF form, built in memory."""

from typing import Any

from tokenizers import Tokenizer as Core
from tokenizers import models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from dar_jax.tokens import Tokenizer

WORDS = ["the", "cat", "sat", "on", "mat", "a", "dog", "ran", "user", "assistant", "system"]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]

IM_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOS_TEMPLATE = "<s>" + IM_TEMPLATE
NO_SYSTEM_TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('system role not supported') }}{% endif %}" + IM_TEMPLATE
)


def hf(
    *,
    adds_bos: bool = False,
    adds_eos: bool = False,
    template: str | None = None,
    **names: Any,
) -> PreTrainedTokenizerFast:
    """Build a word-level tokenizer; `names` are its special tokens (eos_token, pad_token, ...)."""
    vocab = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    core = Core(models.WordLevel(vocab, unk_token="<unk>"))
    core.normalizer = normalizers.Replace("zzz", "")  # a word that gives no token
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(SPECIAL)
    if adds_bos or adds_eos:
        core.post_processor = processors.TemplateProcessing(
            single=("<s> " if adds_bos else "") + "$A" + (" </s>" if adds_eos else ""),
            special_tokens=[("<s>", 1), ("</s>", 2)],
        )
    names = {"eos_token": "</s>", "pad_token": "<pad>"} | names
    if adds_bos:
        names["bos_token"] = "<s>"
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=template, **names)


def tokenizer(*, system: str | None = None, wrap_text: bool = False, **built: Any) -> Tokenizer:
    """Wrap one of them as the package does."""
    return Tokenizer(hf(**built), where="test tokenizer", system=system, wrap_text=wrap_text)
