"""A tokenizer of HF form, with the decisions that training depends on made once."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from dar_jax.errors import SettingError
from dar_jax.records import Message, Prompt
from dar_jax.tokens import files
from dar_jax.tokens.template import Template


class Tokenizer:
    """A tokenizer of HF form, with the decisions that training depends on made once.

    `eos_ids` is every id that ends a completion; `pad_id` is safe to use even where it is one of
    them. `vocab_size` is one more than the highest id. `template` is its chat template, `system` the
    message put before conversations that have none.
    """

    def __init__(
        self,
        hf: Any,
        *,
        where: str,
        folder: Path | None = None,
        also_eos: Iterable[int] = (),
        wrap_text: bool = False,
        system: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        hf.model_max_length = int(1e30)  # lengths are ours to check; the library would only warn
        self._hf, self._folder = hf, folder
        self._template_replaced = False
        self.where, self.wrap_text, self.system = where, wrap_text, system
        self.template = Template(hf, where, template_arguments or {})
        self.vocab_size = max(hf.get_vocab().values()) + 1
        ends = {*also_eos, hf.eos_token_id, self.turn_end_id} - {None}
        if not ends:
            raise SettingError(
                f"tokenizer: {where} names no end token; state eos_token in its"
                " tokenizer_config.json or eos_token_id in generation_config.json"
            )
        self.eos_ids: frozenset[int] = frozenset(int(end) for end in ends)
        self.eos_id = int(hf.eos_token_id if hf.eos_token_id is not None else min(self.eos_ids))
        self.pad_id = int(hf.pad_token_id if hf.pad_token_id is not None else self.eos_id)

    @classmethod
    def load(cls, path: str, chat_template: str = "auto", *, also_eos: Iterable[int] = (), **settings: Any) -> Self:
        """Read a tokenizer from a folder or the hub; `settings` are the constructor's.

        Raises SettingError where there is none, or it cannot be read.
        """
        folder = files.folder(path)
        hf = files.read(folder, path)
        if chat_template != "auto":
            hf.chat_template = None if chat_template == "none" else files.template_file(chat_template)
        ends = {*also_eos, *files.stated_ends(folder)}
        tokenizer = cls(hf, where=path, folder=folder, also_eos=ends, **settings)
        tokenizer._template_replaced = chat_template != "auto"
        return tokenizer

    def save(self, directory: str | Path) -> None:
        """Write the tokenizer in HF form, chat template included, and a generation_config.json with every end.

        The files it was read from are copied as they are, so that any reader splits words as it would the original's.
        """
        directory = Path(directory)
        if self._folder is None:
            self._hf.save_pretrained(str(directory))
        else:
            files.copy(self._folder, directory)
        if self._template_replaced:
            files.replace_template(directory, self._hf.chat_template)
        files.write_generation(self._folder, directory, self.eos_ids, self.pad_id)

    def fit(self, vocab_size: int, policy: str) -> None:
        """Bind the tokenizer to a policy that knows `vocab_size` tokens.

        Special tokens may lie beyond, as Gemma 3's for images do, while no prompt writes them. Raises SettingError
        where words or the end do.
        """
        words = max(each for each in self._hf.get_vocab().values() if each not in self._special_ids)
        needed = max(words, self.eos_id, self.bos_id or 0) + 1
        if needed > vocab_size:
            raise SettingError(
                f"tokenizer: {self.where} has {needed} tokens, but the policy {policy} knows {vocab_size};"
                " name the tokenizer that belongs to the policy"
            )
        if self.pad_id >= vocab_size:
            self.pad_id = self.eos_id
        self.vocab_size = min(self.vocab_size, vocab_size)

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be encoded."""
        return self.template.exists

    @cached_property
    def turn_end_id(self) -> int | None:
        """The token that the chat template puts after an assistant turn, such as `<|im_end|>`."""
        first = self.encode_text(self.template.after_a_turn())[:1]
        return first[0] if first and first[0] in self._special_ids else None

    @cached_property
    def bos_id(self) -> int | None:
        """The id that the tokenizer itself puts before a text; None where it puts none."""
        bos = self._hf.bos_token_id
        return bos if bos is not None and self._hf.encode("a")[:1] == [bos] else None

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of a bare text: no BOS, no EOS, no template."""
        return self._known(list(self._hf.encode(text, add_special_tokens=False)))

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
        return [self._with_one_bos(self._known(list(ids))) for ids in encoded]

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
        """Return the text of a completion, spaces as the ids have them; special and end tokens are dropped."""
        words = [int(i) for i in ids if i not in self.eos_ids and i < self.vocab_size]
        return str(self._hf.decode(words, skip_special_tokens=True, clean_up_tokenization_spaces=False))

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
        return self.template.render(turns, add_generation_prompt=True)

    def _known(self, ids: list[int]) -> list[int]:
        if (highest := max(ids, default=0)) >= self.vocab_size:
            token = self._hf.convert_ids_to_tokens(highest)
            raise SettingError(f"tokenizer: a text holds {token!r}, a token of {self.where} that the policy has not")
        return ids

    def _with_one_bos(self, ids: list[int]) -> list[int]:
        bos = self._hf.bos_token_id
        start = 0
        while bos is not None and start < len(ids) and ids[start] == bos:
            start += 1
        # A template may write BOS itself, the tokenizer may add it too; neither alone is to be
        # trusted.
        return [bos, *ids[start:]] if start or self.bos_id is not None else ids
