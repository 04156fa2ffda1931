"""A tokenizer of HF form, with the decisions that training depends on made once."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from dar_jax.errors import SettingError
from dar_jax.records import Message, Prompt
from dar_jax.tokens import tokenizer_files
from dar_jax.tokens.template import Template, thought_start


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
        also_ends: Sequence[str] = (),
    ) -> None:
        hf.model_max_length = int(1e30)  # lengths are ours to check; the library would only warn
        self._hf, self._folder = hf, folder
        self._template_replaced = False
        self.where, self.wrap_text, self.system = where, wrap_text, system
        self.template = Template(hf, where, template_arguments or {})
        self.vocab_size = max(hf.get_vocab().values(), default=-1) + 1
        if not self.vocab_size:
            raise SettingError(f"tokenizer: {where} has no tokens; fetch its files again")
        named = [self._end_id(token) for token in also_ends]
        ends = {*also_eos, *named, hf.eos_token_id, self.turn_end_id} - {None}
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
        folder = tokenizer_files.folder(path)
        hf = tokenizer_files.read(folder, path)
        if chat_template != "auto":
            hf.chat_template = None if chat_template == "none" else tokenizer_files.template_file(chat_template)
        ends = {*also_eos, *tokenizer_files.stated_ends(folder)}
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
            tokenizer_files.copy(self._folder, directory)
        if self._template_replaced:
            tokenizer_files.replace_template(directory, self._hf.chat_template)
        tokenizer_files.write_generation(self._folder, directory, self.eos_ids, self.pad_id)

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
        """The token that the chat template puts after an assistant turn, such as `<|im_end|>`, flagged special or not:
        fine-tunes add ChatML's as plain tokens.
        """
        first = self.encode_text(self.template.after_a_turn() if self.has_chat_template else "")[:1]
        return first[0] if first and first[0] in self._special_ids | self._hf.added_tokens_decoder.keys() else None

    def doubts(self) -> list[str]:
        """Return what about the chat template a user should know once, before a run: a line each."""
        found = list[str]()
        if not self.has_chat_template:
            return found
        if self.turn_end_id is None:
            found.append(
                f"the chat template of {self.where} ends no turn with one token of its own; only"
                f" {', '.join(self._names(self.eos_ids))} will end a completion. If the policy ends its turns"
                " otherwise, name that token in tokenizer.also_ends"
            )
        if self.template.leaves_turn_closed():
            found.append(
                f"the chat template of {self.where} ignores add_generation_prompt: prompts end before the assistant's"
                " turn is opened, and the policy has to open it; see whether it was trained so"
            )
        return found

    @cached_property
    def bos_id(self) -> int | None:
        """The id that the tokenizer itself puts before a text; None where it puts none."""
        bos = self._hf.bos_token_id
        return bos if bos is not None and self._hf.encode("a")[:1] == [bos] else None

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of a bare text: no BOS, no EOS, no template."""
        return self._known(list(self._split([_whole(text)])[0]))

    def encode_prompt(self, prompt: Prompt, system: str | None = None) -> list[int]:
        """Return the ids the policy is given, with BOS exactly once where the model has one.

        `system` stands in for the settings' system message.
        """
        return self._with_one_bos(self.encode_text(self._prompt_text(prompt, system)))

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Encode many prompts at once."""
        if not prompts:
            return []
        texts = [_whole(self._prompt_text(prompt, None)) for prompt in prompts]
        return [self._with_one_bos(self._known(list(ids))) for ids in self._split(texts)]

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
        # The marks of a thought stay, also where their tokens are flagged special.
        pieces: list[tuple[str | None, list[int]]] = [(None, [])]
        for i in words:
            if (mark := self._thought_marks.get(i)) is None:
                pieces[-1][1].append(i)
            else:
                pieces.append((mark, []))
        return "".join((mark or "") + self._decoded(piece) for mark, piece in pieces)

    def opens_thought(self, prompt: Prompt) -> bool:
        """Whether a prompt, as the policy is given it, leaves a thought open for the completion to go on with."""
        start = thought_start(self.template.thought_end)
        if not start:
            return False
        if prompt.messages is None and not self.wrap_text:
            return prompt.text.rstrip().endswith(start)
        turns, given = self._turns(prompt, None), self._given(prompt)
        return self.template.opens_thought(turns, **given)

    def _split(self, texts: list[str]) -> list[list[int]]:
        try:
            return list(self._hf(texts, add_special_tokens=False)["input_ids"])
        except Exception as fault:  # whatever the library's model of a vocabulary has against a text
            reason = " ".join(str(fault).split())[:200]
            raise SettingError(f"tokenizer: {self.where} cannot split a text into tokens: {reason}") from fault

    def _end_id(self, token: str) -> int:
        ids = self.encode_text(token)
        if len(ids) != 1:
            raise SettingError(
                f"tokenizer.also_ends: {token!r} is {len(ids)} tokens in {self.where}; name one token of its vocabulary"
            )
        return ids[0]

    def _decoded(self, ids: list[int]) -> str:
        return str(self._hf.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)) if ids else ""

    def _names(self, ids: Iterable[int]) -> list[str]:
        return [str(name) for name in self._hf.convert_ids_to_tokens(sorted(ids))]

    @cached_property
    def _thought_marks(self) -> dict[int, str]:
        """The marks of a thought whose tokens are flagged special, by id."""
        end = self.template.thought_end
        vocabulary = self._hf.get_added_vocab()
        marks = {vocabulary.get(mark): mark for mark in (end, thought_start(end)) if mark}
        return {i: mark for i, mark in marks.items() if i in self._special_ids}

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        added = self._hf.added_tokens_decoder.items()
        return frozenset(self._hf.all_special_ids) | {i for i, token in added if token.special}

    def _prompt_text(self, prompt: Prompt, system: str | None) -> str:
        if prompt.messages is None and not self.wrap_text:
            if name := "tools" if prompt.tools else next(iter(prompt.template_arguments), ""):
                raise SettingError(
                    f"{name}: the prompt is a string and goes to the policy without the chat template that would read"
                    f" {name}; set tokenizer.wrap_text=true, or rename the column"
                )
            return prompt.text
        turns, given = self._turns(prompt, system), self._given(prompt)
        return self.template.render(turns, add_generation_prompt=True, **given)

    def _turns(self, prompt: Prompt, system: str | None) -> list[dict[str, Any]]:
        """Return the messages that the template is given. Raises SettingError for a key that it does not read."""
        messages = prompt.messages or (Message(role="user", content=prompt.text),)
        plain = [{"role": turn.role, "content": turn.content} for turn in messages]
        turns = plain if prompt.turns is None else [dict(turn) for turn in prompt.turns]
        for name in {name: None for turn in turns for name in turn if name not in ("role", "content")}:
            if self.has_chat_template and not self.template.reads(name):
                raise SettingError(
                    f"{name}: a message has it, and the chat template of {self.where} does not read it; take it out of"
                    " the data, or name another tokenizer.chat_template"
                )
        system = self.system if system is None else system
        if system is not None and turns[:1] and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": system})
        return turns

    def _given(self, prompt: Prompt) -> dict[str, Any]:
        """Return a row's own tools and template arguments. Raises SettingError for one that the template ignores."""
        names = ["tools"] * bool(prompt.tools) + list(prompt.template_arguments)
        for name in names if self.has_chat_template else ():
            if not self.template.takes(name):
                raise SettingError(
                    f"{name}: the row has it, and the chat template of {self.where} does not read it; take it out of"
                    " the data, or name another tokenizer.chat_template"
                )
        return {"tools": prompt.tools and list(prompt.tools), "arguments": prompt.template_arguments}

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


def _whole(text: str) -> str:
    """Return a text that UTF-8 can hold. Raises SettingError for half a character, which JSON can spell."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as fault:
        half = ascii(text[fault.start])
        raise SettingError(f"tokenizer: a text holds half a character, {half}; write the whole one") from None
    return text
