"""A chat template: a conversation in, the text that the policy is given out."""

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dar_jax.errors import SettingError
from dar_jax.tokens.bounded_jinja import BoundedTemplate

_MARKER = "dar-jax-marker"
_ASKED = {"role": "user", "content": "?"}
# How templates that know thoughts close one; the mark that opens it is the same without the slash.
THOUGHT_END = "</think>"
_THOUGHT_ENDS = (THOUGHT_END, "[/THINK]", "</thinking>", "</thought>", "</reasoning>")

Turns = Sequence[Mapping[str, Any]]


class Template:
    """The chat template of a tokenizer, with the extra `arguments` it is rendered with."""

    def __init__(self, hf: Any, where: str, arguments: Mapping[str, Any]) -> None:
        self._hf, self._where = hf, where
        self.arguments = dict(arguments)

    @property
    def exists(self) -> bool:
        """Whether there is one; without it conversations cannot be encoded."""
        return self._hf.chat_template is not None

    @property
    def thought_end(self) -> str:
        """The mark that closes a thought, as the template or the vocabulary has it; empty where neither has one."""
        known = str(self._hf.chat_template) if self.exists else ""
        return next((mark for mark in _THOUGHT_ENDS if mark in known or mark in self._hf.get_added_vocab()), "")

    def render(
        self,
        turns: Turns,
        *,
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """Return a conversation as text; `arguments` go before the settings' own.

        Raises SettingError where the template refuses it, does not read a part of it, goes beyond the bounds of
        `bounded_jinja`, or there is none.
        """
        if not self.exists:
            raise SettingError(
                f"tokenizer.chat_template: the prompts are conversations and {self._where} has"
                " no chat template; name a file that holds one, or give prompts as strings"
            )
        given = {**self._hf.special_tokens_map, **self.arguments, **(arguments or {})}
        given |= {"tools": tools, "documents": None, "add_generation_prompt": add_generation_prompt}
        try:
            compiled = _compiled(self._hf.get_chat_template(tools=tools))
            return compiled.render({**given, "messages": [dict(turn) for turn in turns]})
        except Exception as fault:  # a template may raise whatever Python has
            reason = " ".join(str(fault).split())[:200] or type(fault).__name__
            roles = ", ".join(repr(turn.get("role")) for turn in turns[:8]) + ", ..." * (len(turns) > 8)
            raise SettingError(
                f"tokenizer.chat_template: the template of {self._where} refuses a conversation with"
                f" the roles [{roles}]: {reason}"
            ) from fault

    def after_a_turn(self) -> str:
        """Return what the template writes behind an assistant's words; empty where that cannot be told."""
        return self._around_a_turn()[1].lstrip()

    def leaves_turn_closed(self) -> bool:
        """Whether the template ignores `add_generation_prompt`, and so does not open the assistant's turn."""
        before, _ = self._around_a_turn()
        try:
            opened, plain = (self.render([_ASKED], add_generation_prompt=asked) for asked in (True, False))
        except SettingError:
            return False
        # Mistral's closes the user's turn and needs no more: the assistant's words follow at once.
        return bool(before) and opened == plain and before.strip() != opened.strip()

    def opens_thought(self, turns: Turns, **given: Any) -> bool:
        """Whether the template opens a thought in the assistant's turn, as DeepSeek R1's does."""
        opened, plain = (self.render(turns, add_generation_prompt=asked, **given) for asked in (True, False))
        tail, end = opened.removeprefix(plain), self.thought_end
        start = thought_start(end)
        return bool(start) and tail.rfind(start) > tail.rfind(end)

    def check_arguments(self) -> None:
        """Raise SettingError for an argument that the template would never read."""
        for name in self.arguments:
            if not self.takes(name):
                raise SettingError(
                    f"tokenizer.template_arguments.{name}: the chat template of {self._where} reads no such argument;"
                    " take it out or write it as the template does"
                )

    def takes(self, name: str) -> bool:
        """Whether the template reads an argument of this name, one that is not the library's own."""
        taken = inspect.signature(self._hf.apply_chat_template).parameters.keys() - {"tools", "documents"}
        return name not in taken and self.reads(name)

    def reads(self, name: str) -> bool:
        """Whether a name occurs in the template."""
        return self.exists and bool(re.search(rf"\b{re.escape(name)}\b", str(self._hf.chat_template)))

    def check_system(self) -> None:
        """Raise SettingError where a system message would be refused, or left out without a word."""
        turns = [{"role": "system", "content": _MARKER}, _ASKED]
        way_out = "put the words into the prompts, or name another tokenizer.chat_template"
        try:
            text = self.render(turns, add_generation_prompt=True)
        except SettingError as error:
            raise SettingError(f"tokenizer.system: {error}; {way_out}") from error
        if _MARKER not in text:
            raise SettingError(
                f"tokenizer.system: the chat template of {self._where} leaves system messages out; {way_out}"
            )

    def _around_a_turn(self) -> tuple[str, str]:
        """Return what the template writes before and behind an assistant's words."""
        try:
            text = self.render([_ASKED, {"role": "assistant", "content": _MARKER}], add_generation_prompt=False)
        except SettingError:
            return "", ""
        before, found, behind = text.rpartition(_MARKER)
        return (before, behind) if found else ("", "")


@lru_cache(maxsize=16)
def _compiled(source: str) -> BoundedTemplate:
    return BoundedTemplate(source)


def thought_start(end: str) -> str:
    """Return the mark that opens the thought which `end` closes; empty where it has no slash to tell by."""
    return end.replace("/", "", 1) if "/" in end else ""
