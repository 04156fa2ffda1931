"""A chat template: a conversation in, the text that the policy is given out."""

import inspect
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from dar_jax.errors import SettingError

_MARKER = "dar-jax-marker"
# A template that asks the clock would give a resumed run other prompts than the run it goes on with. Llama 3's fall
# back to this day themselves.
_TODAY = date(2024, 7, 26)
_CLOCK = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")

Turns = Sequence[Mapping[str, str]]


class Template:
    """The chat template of a tokenizer, with the extra `arguments` it is rendered with."""

    def __init__(self, hf: Any, where: str, arguments: Mapping[str, Any]) -> None:
        self._hf, self._where = hf, where
        self.arguments = dict(arguments)

    @property
    def exists(self) -> bool:
        """Whether there is one; without it conversations cannot be encoded."""
        return self._hf.chat_template is not None

    def render(self, turns: Turns, *, add_generation_prompt: bool) -> str:
        """Write a conversation out. Raises SettingError where the template refuses it, or there is none."""
        from jinja2 import TemplateError

        if not self.exists:
            raise SettingError(
                f"tokenizer.chat_template: the prompts are conversations and {self._where} has"
                " no chat template; name a file that holds one, or give prompts as strings"
            )
        given = {**self.arguments, "add_generation_prompt": add_generation_prompt, "tokenize": False}
        try:
            text = _CLOCK.sub(lambda call: repr(_TODAY.strftime(call[2])), self._hf.get_chat_template())
            return str(self._hf.apply_chat_template([dict(turn) for turn in turns], chat_template=text, **given))
        except (TemplateError, TypeError, ValueError) as fault:
            roles = [turn["role"] for turn in turns]
            raise SettingError(
                f"tokenizer.chat_template: the template of {self._where} refuses a conversation with"
                f" the roles {roles}: {' '.join(str(fault).split())}"
            ) from fault

    def after_a_turn(self) -> str:
        """Return what the template writes behind an assistant's words; empty where that cannot be told."""
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARKER}]
        try:
            text = self.render(turns, add_generation_prompt=False) if self.exists else ""
        except SettingError:
            return ""
        return text.rpartition(_MARKER)[2].lstrip() if _MARKER in text else ""

    def check_arguments(self) -> None:
        """Raise SettingError for an argument that the template would never read."""
        taken = inspect.signature(self._hf.apply_chat_template).parameters.keys() - {"tools", "documents"}
        for name in self.arguments:
            if (
                not self.exists
                or name in taken
                or not re.search(rf"\b{re.escape(name)}\b", str(self._hf.chat_template))
            ):
                raise SettingError(
                    f"tokenizer.template_arguments.{name}: the chat template of {self._where} reads no such argument;"
                    " take it out or write it as the template does"
                )

    def check_system(self) -> None:
        """Raise SettingError where a system message would be refused, or left out without a word."""
        turns = [{"role": "system", "content": _MARKER}, {"role": "user", "content": "?"}]
        way_out = "put the words into the prompts, or name another tokenizer.chat_template"
        try:
            text = self.render(turns, add_generation_prompt=True)
        except SettingError as error:
            raise SettingError(f"tokenizer.system: {error}; {way_out}") from error
        if _MARKER not in text:
            raise SettingError(
                f"tokenizer.system: the chat template of {self._where} leaves system messages out; {way_out}"
            )
