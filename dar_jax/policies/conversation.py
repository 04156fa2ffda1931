"""Chat with a policy in the terminal; it gets the whole history through its chat template."""

import contextlib
import sys

from rich.console import Console
from rich.text import Text

from dar_jax.errors import SettingError
from dar_jax.policies.sample import PolicySampler, SampleRequest, length, open_sampler
from dar_jax.records import Completion, Message, Prompt
from dar_jax.terminal.visible import visible

_HELP = "/reset forgets what was said, /quit (or Ctrl-D) leaves"


class Conversation:
    """The turns so far; `asked` counts questions, so that a repeated question has another random key."""

    def __init__(self, speaker: PolicySampler) -> None:
        self._speaker = speaker
        self.turns: list[Message] = []
        self.asked = 0

    def answer(self, text: str) -> tuple[Completion, int]:
        """Return the answer to `text`, and how many of the oldest turns were dropped to fit.

        Raises SettingError if `text` alone is too long; the history is then unchanged.
        """
        turns = [*self.turns, Message(role="user", content=text)]
        left_out = 0
        while len(turns) > 1 and self._tokens(turns) > self._speaker.fits:
            turns, left_out = turns[2:], left_out + 2
        if (tokens := self._tokens(turns)) > self._speaker.fits:
            raise SettingError(f"that has {tokens} tokens, and there is room for {self._speaker.fits}; say it shorter")
        completion = self._speaker.completions([self._prompt(turns)])[0]
        self.turns = [*turns, Message(role="assistant", content=completion.text)]
        self.asked += 1
        return completion, left_out

    def reset(self) -> None:
        """Clear the history."""
        self.turns = []

    def _prompt(self, turns: list[Message]) -> Prompt:
        return Prompt(id=self.asked, text=turns[-1].content, messages=tuple(turns))

    def _tokens(self, turns: list[Message]) -> int:
        return len(self._speaker.tokenizer.encode_prompt(self._prompt(turns)))


def converse(source: str, asked: SampleRequest) -> None:
    """Chat until standard input ends, or Ctrl-C or /quit is typed at the prompt."""
    speaker = open_sampler(source, asked, talk=True)
    out = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    conversation = Conversation(speaker)
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  input() then edits lines and recalls them
        out.print(Text(visible(f"{speaker.title}. {_HELP}"), style="dim"))
    while (said := _listen()) is not None and said != "/quit":
        if said == "/reset":
            conversation.reset()
        elif said.startswith("/"):
            out.print(Text(visible(f"{said}: no such command; {_HELP}"), style="dim"))
        elif said:
            _answer(out, conversation, said)


def _listen() -> str | None:
    """Return a line, or None at the end."""
    try:
        return input("you> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        if sys.stdin.isatty():
            print()
        return None


def _answer(out: Console, conversation: Conversation, said: str) -> None:
    try:
        completion, left_out = conversation.answer(said)
    except SettingError as error:
        out.print(Text(visible(str(error)), style="dim"))
        return
    if left_out:
        out.print(Text(f"(the oldest {left_out} turns no longer fit and were left out)", style="dim"))
    out.print(Text(visible(completion.text)))
    if not completion.ended:
        out.print(Text(f"({length(completion)}; --max-tokens allows more)", style="dim"))
