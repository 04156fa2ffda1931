"""Small tokenizers of HF form, built in memory."""

from typing import Any

from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Core
from transformers import PreTrainedTokenizerFast

from dar_jax.tokens import Tokenizer

WORDS = ["the", "cat", "sat", "on", "mat", "a", "dog", "ran", "user", "assistant", "system"]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]

IM_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOS_TEMPLATE = "<s>" + IM_TEMPLATE
# Qwen3's, without its tools: `enable_thinking: false` writes an empty thought, earlier turns lose theirs, and a last
# turn of the assistant is written with a thought, empty where it has none.
QWEN3_TEMPLATE = (
    "{% for message in messages %}{% set content = message.content if message.content is string else '' %}"
    "{% if message.role == 'assistant' %}{% set reasoning = '' %}"
    "{% if message.reasoning_content is string %}{% set reasoning = message.reasoning_content %}"
    "{% elif '</think>' in content %}"
    "{% set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "<|im_start|>assistant\n"
    "{% if loop.last or reasoning %}<think>\n{{ reasoning.strip('\\n') }}\n</think>\n\n{% endif %}"
    "{{ content }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ message.role }}\n{{ content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# As Qwen3-Thinking-2507 and DeepSeek R1 have it: the prompt opens the thought.
OPEN_THOUGHT_TEMPLATE = "{# </think> #}" + IM_TEMPLATE.replace("assistant\n{%", "assistant\n<think>\n{%")
TOOLS_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}{{ call.function.name }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM_TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('system role not supported') }}{% endif %}" + IM_TEMPLATE
)


def hf(
    *,
    adds_bos: bool = False,
    adds_eos: bool = False,
    template: str | None = None,
    plain: tuple[str, ...] = (),
    **names: Any,
) -> PreTrainedTokenizerFast:
    """Build a word-level tokenizer; `names` are special tokens (eos_token, pad_token, ...); `plain` ones are added
    without the flag `special`, as Qwen3's thought marks are.
    """
    vocab = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    core = Core(models.WordLevel(vocab, unk_token="<unk>"))
    core.normalizer = normalizers.Replace("zzz", "")  # a word that gives no token
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens([token for token in SPECIAL if token not in plain])
    core.add_tokens([AddedToken(token, special=False) for token in plain])
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
