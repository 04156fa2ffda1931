"""Between words and token ids: chat template, BOS, end tokens, padding. Never imports jax.

Token ids that the sampler drew reach the learner as they are; text is for people and judges.
Nothing downstream may find padding or the end of a completion by comparing ids: masks and lengths
travel with the tokens, so that a pad id that equals EOS does no harm.
"""

import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic.dataclasses import dataclass

from dar_jax.errors import SettingError
from dar_jax.records import Message, Prompt
from dar_jax.settings import STRICT

_MARKER = "dar-jax-marker"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TokenizerSettings:
    """How prompts become tokens.

    `path` is a folder or hub id, by default the policy's own. `chat_template` is `auto` (the
    tokenizer's, where it has one), `none`, or a file holding one. Conversations go through the
    template; a string prompt is used as it is unless `wrap_text` makes it a user turn. `system` is
    put before conversations that have no system message.
    """

    path: str | None = None
    chat_template: str = "auto"
    wrap_text: bool = False
    system: str | None = None

    def open(self, policy_path: str) -> "Tokenizer":
        """Load the tokenizer; `policy_path` is where it lies when the settings name no place."""
        return Tokenizer.load(
            self.path or policy_path,
            chat_template=self.chat_template,
            wrap_text=self.wrap_text,
            system=self.system,
        )


class Tokenizer:
    """A tokenizer of HF form, with the decisions that training depends on made once.

    `eos_ids` is every id that ends a completion; `pad_id` is safe to use even where it is one of
    them.
    """

    def __init__(
        self,
        hf: Any,
        *,
        where: str,
        also_eos: Iterable[int] = (),
        wrap_text: bool = False,
        system: str | None = None,
    ) -> None:
        hf.model_max_length = int(1e30)  # lengths are ours to check; the library would only warn
        self._hf = hf
        self.where = where
        self.wrap_text = wrap_text
        self.system = system
        ends = {*also_eos, hf.eos_token_id, self.turn_end_id} - {None}
        if not ends:
            raise SettingError(
                f"tokenizer: {where} names no end token; state eos_token in its"
                " tokenizer_config.json or eos_token_id in generation_config.json"
            )
        self.eos_ids: frozenset[int] = frozenset(int(end) for end in ends)
        self.eos_id = int(hf.eos_token_id if hf.eos_token_id is not None else min(self.eos_ids))
        self.pad_id = int(hf.pad_token_id if hf.pad_token_id is not None else self.eos_id)
        self.vocab_size = len(hf)

    @classmethod
    def load(
        cls,
        path: str,
        chat_template: str = "auto",
        *,
        wrap_text: bool = False,
        system: str | None = None,
    ) -> "Tokenizer":
        """Read a tokenizer from a folder or the hub. Raises SettingError where there is none."""
        try:
            hf = _tokenizer_class(path).from_pretrained(path)
        except Exception as fault:  # the library raises what its many readers raise
            reason = " ".join(str(fault).split())[:200]
            here = "" if Path(path).is_dir() else " (no such folder here, so looked for on the hub)"
            raise SettingError(f"tokenizer.path: cannot read a tokenizer from {path}{here}: {reason}") from fault
        if chat_template == "none":
            hf.chat_template = None
        elif chat_template != "auto":
            hf.chat_template = _template_file(chat_template)
        return cls(hf, where=path, also_eos=_stated_eos(path), wrap_text=wrap_text, system=system)

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be encoded."""
        return self._hf.chat_template is not None

    @cached_property
    def turn_end_id(self) -> int | None:
        """The token that the chat template puts after an assistant turn, such as `<|im_end|>`."""
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARKER}]
        try:
            text = self._render(turns, add_generation_prompt=False) if self.has_chat_template else ""
        except SettingError:
            return None
        after = text.rpartition(_MARKER)[2].lstrip() if _MARKER in text else ""
        first = self.encode_text(after)[:1]
        return first[0] if first and first[0] in self._special_ids else None

    @cached_property
    def bos_id(self) -> int | None:
        """The id that the tokenizer itself puts before a text; None where it puts none."""
        bos = self._hf.bos_token_id
        return bos if bos is not None and self._hf.encode("a")[:1] == [bos] else None

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of a bare text: no BOS, no EOS, no template."""
        return list(self._hf.encode(text, add_special_tokens=False))

    def encode_prompt(self, prompt: Prompt, system: str | None = None) -> list[int]:
        """Return the ids the policy is given, with BOS exactly once where the model has one.

        `system` stands in for the settings' system message.
        """
        return self._with_one_bos(self.encode_text(self._prompt_text(prompt, system)))

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Encode many prompts at once."""
        if not prompts:
            return []
        texts = [self._prompt_text(prompt, None) for prompt in prompts]
        encoded = self._hf(texts, add_special_tokens=False)["input_ids"]
        return [self._with_one_bos(list(ids)) for ids in encoded]

    def encode_completion(self, text: str, *, conversation: bool = False) -> list[int]:
        """Return the ids of a recorded completion, ended by one end token.

        An answer to a `conversation` ends as the chat template ends a turn, a plain text with EOS.
        """
        ids = self.encode_text(text)
        while ids and ids[-1] in self.eos_ids:
            ids.pop()
        turn = conversation or self.wrap_text
        return [*ids, self.turn_end_id if turn and self.turn_end_id is not None else self.eos_id]

    def says_something(self, prompt: Prompt) -> bool:
        """Whether a prompt's own words give any token at all, template and BOS left aside."""
        texts = [turn.content for turn in prompt.messages] if prompt.messages else [prompt.text]
        return any(self.encode_text(text[:64]) or self.encode_text(text) for text in texts)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of a completion; special and end tokens are dropped."""
        words = [int(i) for i in ids if i not in self.eos_ids and i < self.vocab_size]
        return str(self._hf.decode(words, skip_special_tokens=True))

    def save(self, directory: str | Path) -> None:
        """Write the tokenizer in HF form, chat template included."""
        self._hf.save_pretrained(str(directory))

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        added = self._hf.added_tokens_decoder.items()
        return frozenset(self._hf.all_special_ids) | {i for i, token in added if token.special}

    def _prompt_text(self, prompt: Prompt, system: str | None) -> str:
        messages = prompt.messages
        if messages is None:
            if not self.wrap_text:
                return prompt.text
            messages = (Message(role="user", content=prompt.text),)
        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        system = self.system if system is None else system
        if system is not None and turns[:1] and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": system})
        return self._render(turns, add_generation_prompt=True)

    def _render(self, turns: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        if not self.has_chat_template:
            raise SettingError(
                f"tokenizer.chat_template: the prompts are conversations and {self.where} has"
                " no chat template; name a file that holds one, or give prompts as strings"
            )
        try:
            return str(self._hf.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt))
        except TemplateError as fault:
            roles = [turn["role"] for turn in turns]
            raise SettingError(
                f"tokenizer.chat_template: the template of {self.where} refuses a conversation with"
                f" the roles {roles}: {fault}"
            ) from fault

    def _with_one_bos(self, ids: list[int]) -> list[int]:
        bos = self._hf.bos_token_id
        start = 0
        while bos is not None and start < len(ids) and ids[start] == bos:
            start += 1
        # A template may write BOS itself, the tokenizer may add it too; neither alone is to be
        # trusted.
        return [bos, *ids[start:]] if start or self.bos_id is not None else ids


def pad(
    rows: Sequence[Sequence[int]],
    pad_id: int,
    *,
    side: Literal["left", "right"],
    length: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pad rows to `length` or the longest: int32 `token_BT`, bool `mask_BT` (True at real tokens).

    The mask comes from the lengths, never from the ids. Raises ValueError for a row longer than
    `length`.
    """
    longest = max(map(len, rows), default=0)
    width = longest if length is None else length
    if longest > width:
        raise ValueError(f"a row of {longest} tokens does not fit a length of {width}")
    token_BT = np.full((len(rows), width), pad_id, np.int32)
    mask_BT = np.zeros((len(rows), width), bool)
    for b, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        token_BT[b, place] = row
        mask_BT[b, place] = True
    return token_BT, mask_BT


def _tokenizer_class(path: str) -> Any:
    """Choose the class that reads a tokenizer as its files state it.

    Where they name the generic class, tokenizer.json is the whole truth: `AutoTokenizer` would put a model type's own
    class in its place (Qwen2's among them) and so another way to split words.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it would advise to install PyTorch
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    stated = _model_file(path, "tokenizer_config.json").get("tokenizer_class")
    generic = stated in ("PreTrainedTokenizerFast", "TokenizersBackend")
    return PreTrainedTokenizerFast if generic else AutoTokenizer


def _template_file(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as fault:
        raise SettingError(
            f"tokenizer.chat_template: cannot read {path} ({fault.strerror});"
            " expected auto, none or a file that holds a template"
        ) from fault


def _stated_eos(path: str) -> set[int]:
    """Collect the end ids that the model's own files state; a model may end in several ways."""
    ends: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        stated = _model_file(path, name).get("eos_token_id")
        ends |= set(stated if isinstance(stated, list) else [] if stated is None else [stated])
    return ends


def _model_file(path: str, name: str) -> dict[str, Any]:
    if Path(path).is_dir():
        file = Path(path) / name
        found = file if file.is_file() else None
    else:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            found = Path(hf_hub_download(path, name))
        except EntryNotFoundError:
            found = None
    return {} if found is None else dict(json.loads(found.read_text(encoding="utf-8")))
