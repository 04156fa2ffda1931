"""Which prompts may be used: rows are looked at with the tokenizer once, before a run."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from dar_jax.data.source import Source
from dar_jax.errors import SettingError
from dar_jax.records import Prompt
from dar_jax.tokens import Tokenizer

OnBad = Literal["error", "skip"]
Reason = Literal["unreadable", "empty", "no_tokens", "too_long"]
_CHUNK = 1024


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """The rows that may be sampled from, in source order, with their prompt lengths in tokens and a digest of their
    numbers and token ids.

    `skipped` counts the others by reason; `first_skipped` names a row of each.
    """

    ids: list[int]
    lengths: list[int]
    digest: str = ""
    skipped: dict[str, int] = field(default_factory=dict)
    first_skipped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def describe(self) -> str:
        """Return one line on what is used and what was skipped."""
        reasons = ", ".join(
            f"{count} {reason.replace('_', ' ')} (first: row {self.first_skipped[reason]})"
            for reason, count in self.skipped.items()
        )
        return f"{len(self)} prompts" + (f"; skipped {reasons}" if reasons else "")


def admit(source: Source, tokenizer: Tokenizer, max_prompt_length: int, *, on_bad: OnBad = "error") -> Admitted:
    """Check every prompt: readable, not blank, with tokens and at most `max_prompt_length` of them.

    A prompt that fails raises SettingError naming its row, or is left out and counted where
    `on_bad` is "skip". Nothing left to use is a SettingError in both cases.
    """
    ids: list[int] = []
    lengths: list[int] = []
    skipped: Counter[str] = Counter()
    first: dict[str, int] = {}
    content = hashlib.blake2b(digest_size=8)
    for start in range(0, len(source), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(source)))
        for row, (tokens, reason) in zip(
            rows, _measure(source, rows, tokenizer, max_prompt_length, on_bad), strict=True
        ):
            if reason is None:
                ids.append(row)
                lengths.append(len(tokens))
                content.update(array("q", [row, len(tokens), *tokens]).tobytes())
                continue
            if on_bad == "error":
                _refuse(source, row, reason, len(tokens), max_prompt_length)
            skipped[reason] += 1
            first.setdefault(reason, row)
    admitted = Admitted(
        ids=ids,
        lengths=lengths,
        digest=content.hexdigest(),
        skipped=dict(sorted(skipped.items())),
        first_skipped=first,
    )
    if not ids:
        raise SettingError(f"data: {source.where}: no usable prompt; {admitted.describe()}")
    return admitted


def _measure(
    source: Source, rows: Sequence[int], tokenizer: Tokenizer, limit: int, on_bad: OnBad
) -> list[tuple[list[int], Reason | None]]:
    """Return the token ids of each row, and why it cannot be used."""
    prompts = [_read(source, row, on_bad) for row in rows]
    whole = [prompt for prompt in prompts if prompt is not None and not _blank(prompt)]
    try:
        tokens = {prompt.id: ids for prompt, ids in zip(whole, tokenizer.encode_prompts(whole), strict=True)}
    except SettingError:
        # Of many encoded at once nobody knows which it was.
        tokens = _one_by_one(source, whole, tokenizer, on_bad)
    refused = {prompt.id for prompt in whole} - tokens.keys()
    kept = [None if prompt is None or prompt.id in refused else prompt for prompt in prompts]
    return [_finding(prompt, tokens, tokenizer, limit) for prompt in kept]


def _one_by_one(source: Source, prompts: Sequence[Prompt], tokenizer: Tokenizer, on_bad: OnBad) -> dict[int, list[int]]:
    """Return the ids of those that can be encoded. Raises SettingError naming the row of one that cannot."""
    tokens = {}
    for prompt in prompts:
        try:
            tokens[prompt.id] = tokenizer.encode_prompt(prompt)
        except SettingError as error:
            if on_bad == "error":
                raise SettingError(f"data: {source.where}: row {prompt.id}: {error}") from None
    return tokens


def _finding(
    prompt: Prompt | None, tokens: dict[int, list[int]], tokenizer: Tokenizer, limit: int
) -> tuple[list[int], Reason | None]:
    if prompt is None:
        return [], "unreadable"
    if prompt.id not in tokens:
        return [], "empty"
    ids = tokens[prompt.id]
    if len(ids) > limit:
        return ids, "too_long"
    return ids, None if tokenizer.says_something(prompt) else "no_tokens"


def _read(source: Source, row: int, on_bad: OnBad) -> Prompt | None:
    try:
        prompt: Prompt = source[row]
    except SettingError:
        if on_bad == "error":
            raise
        return None
    return prompt


def _blank(prompt: Prompt) -> bool:
    if prompt.messages is None:
        return not prompt.text.strip()
    return not any(message.content.strip() for message in prompt.messages)


def _refuse(source: Source, row: int, reason: Reason, length: int, limit: int) -> NoReturn:
    said = {
        "empty": "is empty",
        "no_tokens": "gives no tokens",
        "too_long": f"has {length} tokens, more than max_prompt_length {limit}",
    }[reason]
    way_out = ", raise max_prompt_length" if reason == "too_long" else ""
    raise SettingError(
        f"data: {source.where}: the prompt of row {row} {said}; mend the data{way_out} or set on_bad_prompt: skip"
    )
