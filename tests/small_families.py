"""Tokenizers of each family's shape, small: its special tokens, its BOS habits, its chat format, its stated class.

Two kinds of core: `bytes` (byte-level BPE, as Qwen, Llama 3, OLMo 2 and Phi-4 have) and `pieces` (BPE over characters
with bytes to fall back on, as Llama 2, Mistral, Gemma and Phi-3 have). Each has a handful of merges that show where a
reader splits words otherwise.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

_CHARACTERS = [chr(i) for i in range(33, 127)]
_LETTERS = [("t", "h"), ("th", "e"), ("1", "2"), ("12", "3"), ("c", "a"), ("ca", "t"), ("'", "s")]

_ROLES = "{%- for m in messages -%}"
_REFUSE = "{%- if messages[0].role == 'system' -%}{{ raise_exception('no system role here') }}{%- endif -%}"
_FOLD = (
    "{%- if messages[0].role == 'system' -%}{%- set first = messages[0].content + '\n\n' -%}"
    "{%- set messages = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- endif -%}"
)
_IM = _ROLES + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor -%}"
_IM_OPEN = "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
_GEMMA = (
    _ROLES + "{%- set role = 'model' if m.role == 'assistant' else m.role -%}"
    "{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') + m.content | trim + '<end_of_turn>\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)
_INST = (
    "{{ bos_token }}" + _ROLES + "{%- if m.role == 'user' -%}"
    "{{ '[INST] ' + (first if loop.last else '') + m.content + ' [/INST]' }}"
    "{%- else -%}{{ ' ' + m.content + eos_token }}{%- endif -%}{%- endfor -%}"
)
_PHI = _ROLES + "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{%- endfor -%}"

TEMPLATES = {
    "qwen2": "{%- if messages[0].role != 'system' -%}{{ '<|im_start|>system\nBe good.<|im_end|>\n' }}{%- endif -%}"
    + _IM
    + _IM_OPEN,
    "qwen3": _IM + "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and not enable_thinking -%}{{ '<think>\n\n</think>\n\n' }}"
    "{%- endif -%}{%- endif -%}",
    "llama2": "{%- if messages[0].role == 'system' -%}"
    "{%- set first = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' -%}{%- set messages = messages[1:] -%}"
    "{%- else -%}{%- set first = '' -%}{%- endif -%}" + _ROLES + "{%- if m.role == 'user' -%}"
    "{{ bos_token + '[INST] ' + (first if loop.first else '') + m.content + ' [/INST]' }}"
    "{%- else -%}{{ ' ' + m.content + ' ' + eos_token }}{%- endif -%}{%- endfor -%}",
    "llama3": "{%- if not date_string is defined -%}{%- set date_string = strftime_now('%d %b %Y') -%}{%- endif -%}"
    "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n' }}"
    "{%- if messages[0].role == 'system' -%}{{ messages[0].content }}{%- set messages = messages[1:] -%}{%- endif -%}"
    "{{ '<|eot_id|>' }}"
    + _ROLES
    + "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content + '<|eot_id|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif -%}",
    "mistral-v1": _REFUSE + "{%- set first = '' -%}" + _INST,
    "mistral-v3": _FOLD + _INST,
    "gemma2": "{{ bos_token }}" + _REFUSE + "{%- set first = '' -%}" + _GEMMA,
    "gemma3": "{{ bos_token }}" + _FOLD + _GEMMA,
    "olmo2": "{{ bos_token }}" + _ROLES + "{{ '<|' + m.role + '|>\n' + m.content }}"
    "{{ eos_token if m.role == 'assistant' else '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>\n' }}{%- endif -%}",
    "phi3": _PHI + "{%- if add_generation_prompt -%}{{ '<|assistant|>\n' }}{%- else -%}{{ eos_token }}{%- endif -%}",
    "phi4": _ROLES + "{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant<|im_sep|>' }}{%- endif -%}",
}


@dataclass(frozen=True, kw_only=True)
class Small:
    """What sets a family's tokenizer apart. `special` tokens have the first ids, `plain` and special ones `behind` the
    last. `ends` is the list in its generation_config.json; `talk` and `advised`
    are a user's "hi" without and with the system message "Rhyme.", as its own documentation shows them, BOS left
    aside; `advised` is None where the template refuses.
    """

    model_type: str
    stated_class: str
    core: str
    special: tuple[str, ...]
    plain: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    bos: str | None = None
    eos: str
    pad: str | None = None
    adds_bos: bool = False
    ends: tuple[str, ...]
    turn_end: str
    talk: str
    advised: str | None


_QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA3 = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
)
_TODAY = "<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n"
_ASKED = "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
_GEMMA_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")

FAMILIES = {
    "qwen2": Small(
        model_type="qwen2",
        stated_class="Qwen2Tokenizer",
        core="bytes",
        special=_QWEN,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        ends=("<|im_end|>", "<|endoftext|>"),
        turn_end="<|im_end|>",
        talk="<|im_start|>system\nBe good.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
        advised="<|im_start|>system\nRhyme.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    ),
    "qwen3": Small(
        model_type="qwen3",
        stated_class="Qwen2Tokenizer",
        core="bytes",
        special=_QWEN,
        plain=("<think>", "</think>"),
        eos="<|im_end|>",
        pad="<|endoftext|>",
        ends=("<|im_end|>", "<|endoftext|>"),
        turn_end="<|im_end|>",
        talk="<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
        advised="<|im_start|>system\nRhyme.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    ),
    "llama2": Small(
        model_type="llama",
        stated_class="LlamaTokenizer",
        core="pieces",
        special=("<unk>", "<s>", "</s>"),
        bos="<s>",
        eos="</s>",
        adds_bos=True,
        ends=("</s>",),
        turn_end="</s>",
        talk="[INST] hi [/INST]",
        advised="[INST] <<SYS>>\nRhyme.\n<</SYS>>\n\nhi [/INST]",
    ),
    "llama3": Small(
        model_type="llama",
        stated_class="PreTrainedTokenizerFast",
        core="bytes",
        special=_LLAMA3,
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        adds_bos=True,
        ends=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        turn_end="<|eot_id|>",
        talk=_TODAY + "<|eot_id|>" + _ASKED,
        advised=_TODAY + "Rhyme.<|eot_id|>" + _ASKED,
    ),
    "mistral-v1": Small(
        model_type="mistral",
        stated_class="LlamaTokenizer",
        core="pieces",
        special=("<unk>", "<s>", "</s>"),
        bos="<s>",
        eos="</s>",
        adds_bos=True,
        ends=("</s>",),
        turn_end="</s>",
        talk="[INST] hi [/INST]",
        advised=None,
    ),
    "mistral-v3": Small(
        model_type="mistral",
        stated_class="LlamaTokenizer",
        core="pieces",
        special=("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        bos="<s>",
        eos="</s>",
        adds_bos=True,
        ends=("</s>",),
        turn_end="</s>",
        talk="[INST] hi [/INST]",
        advised="[INST] Rhyme.\n\nhi [/INST]",
    ),
    "gemma2": Small(
        model_type="gemma2",
        stated_class="GemmaTokenizer",
        core="pieces",
        special=_GEMMA_SPECIAL,
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        adds_bos=True,
        ends=("<eos>", "<end_of_turn>"),
        turn_end="<end_of_turn>",
        talk="<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n",
        advised=None,
    ),
    "gemma3": Small(
        model_type="gemma3_text",
        stated_class="GemmaTokenizer",
        core="pieces",
        special=_GEMMA_SPECIAL,
        behind=("<image_soft_token>",),
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        adds_bos=True,
        ends=("<eos>", "<end_of_turn>"),
        turn_end="<end_of_turn>",
        talk="<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n",
        advised="<start_of_turn>user\nRhyme.\n\nhi<end_of_turn>\n<start_of_turn>model\n",
    ),
    "olmo2": Small(
        model_type="olmo2",
        stated_class="GPT2Tokenizer",
        core="bytes",
        special=("<|endoftext|>", "<|pad|>"),
        bos="<|endoftext|>",
        eos="<|endoftext|>",
        pad="<|pad|>",
        ends=("<|endoftext|>",),
        turn_end="<|endoftext|>",
        talk="<|user|>\nhi\n<|assistant|>\n",
        advised="<|system|>\nRhyme.\n<|user|>\nhi\n<|assistant|>\n",
    ),
    "phi3": Small(
        model_type="phi3",
        stated_class="LlamaTokenizer",
        core="pieces",
        special=("<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"),
        bos="<s>",
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        ends=("<|endoftext|>", "<|assistant|>", "<|end|>"),
        turn_end="<|end|>",
        talk="<|user|>\nhi<|end|>\n<|assistant|>\n",
        advised="<|system|>\nRhyme.<|end|>\n<|user|>\nhi<|end|>\n<|assistant|>\n",
    ),
    "phi4": Small(
        model_type="phi3",
        stated_class="GPT2Tokenizer",
        core="bytes",
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>"),
        bos="<|endoftext|>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        ends=("<|endoftext|>", "<|im_end|>"),
        turn_end="<|im_end|>",
        talk="<|im_start|>user<|im_sep|>hi<|im_end|><|im_start|>assistant<|im_sep|>",
        advised="<|im_start|>system<|im_sep|>Rhyme.<|im_end|><|im_start|>user<|im_sep|>hi<|im_end|>"
        "<|im_start|>assistant<|im_sep|>",
    ),
}


def core(name: str) -> Tokenizer:
    """Build a family's tokenizer.json."""
    small = FAMILIES[name]
    built = _bytes(small) if small.core == "bytes" else _pieces(small)
    strips = name == "phi3"  # its special tokens swallow the space behind them
    built.add_special_tokens([AddedToken(token, special=True, rstrip=strips) for token in small.special])
    built.add_tokens([AddedToken(token, special=False) for token in small.plain])
    built.add_special_tokens([AddedToken(token, special=True) for token in small.behind])
    if small.adds_bos:
        assert small.bos
        ids = [(small.bos, built.token_to_id(small.bos))]
        built.post_processor = processors.TemplateProcessing(single=f"{small.bos} $A", special_tokens=ids)
    return built


def write(name: str, folder: Path, **config: object) -> Path:
    """Write a family's tokenizer as a folder of its model holds it; `config` goes into config.json."""
    small = FAMILIES[name]
    folder.mkdir(parents=True, exist_ok=True)
    built = core(name)
    built.save(str(folder / "tokenizer.json"))
    stated = {"tokenizer_class": small.stated_class, "chat_template": TEMPLATES[name]}
    stated |= {"bos_token": small.bos, "eos_token": small.eos, "pad_token": small.pad}
    ends = [built.token_to_id(end) for end in small.ends]
    contents = {
        "tokenizer_config.json": stated,
        "generation_config.json": {"eos_token_id": ends},
        "config.json": {"model_type": small.model_type, **config},
    }
    for file, content in contents.items():
        (folder / file).write_text(json.dumps(content))
    return folder


def _bytes(small: Small) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [*_LETTERS, ("Ġ", "the"), ("Ġ", "cat")]
    vocab = {token: i for i, token in enumerate([*small.special, *alphabet, *(a + b for a, b in merges)])}
    built = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    words = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    if small.model_type in ("qwen2", "qwen3"):  # its words: digits one by one, 's apart
        built.normalizer = normalizers.NFC()
        words = Regex(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    split = pre_tokenizers.Split(words, behavior="isolated")
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    built.decoder = decoders.ByteLevel()
    return built


def _pieces(small: Small) -> Tokenizer:
    merges = [*_LETTERS, ("▁", "the"), ("▁", "cat")]
    spare = [f"<0x{i:02X}>" for i in range(256)]
    pieces = [*small.special, *spare, "▁", *_CHARACTERS, *(a + b for a, b in merges)]
    vocab = {token: i for i, token in enumerate(pieces)}
    built = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", "▁")
    built.normalizer = spaces
    ends = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if "gemma" not in small.model_type:  # all others of this kind put a space before the first word
        built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
        ends.append(decoders.Strip(" ", 1, 0))
    built.decoder = decoders.Sequence(ends)
    return built
