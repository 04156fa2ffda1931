"""Score a summary of a mini TL;DR post exactly: every word that can state a fact is known.

A post states who did what to what, and up to three more facts; `SLOTS` has the words of each kind of fact, and no word
is in two of them. A summary is parsed from left to right: phrases of `PHRASES` state facts, all other words are idle.
Then

    score = 1 + 9 * covered * PER_INVENTED ** invented * PER_IDLE ** idle * (1 or NO_END)

with `covered` the share of the post's facts that are stated, `invented` the number of stated facts that are not in the
post, and `idle` the number of words that state nothing new: copies, lists and repetitions are idle.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

SLOTS: Mapping[str, tuple[str, ...]] = {
    slot: tuple(words.split())
    for slot, words in {
        "persona": "nurse teacher student baker driver writer farmer lawyer painter waiter singer plumber dentist"
        " pilot tailor barber chemist gardener librarian carpenter",
        "who": "brother sister mother father cousin uncle aunt boss neighbor roommate boyfriend girlfriend wife"
        " husband landlord coworker grandfather nephew niece teammate",
        "did": "sold broke lost took burned hid borrowed ruined scratched stole dropped damaged smashed pawned"
        " flooded trashed wrecked copied bent cracked",
        "what": "car laptop guitar bike phone camera piano dress watch ring couch tent boat violin jacket bracelet"
        " tablet scooter mirror carpet helmet kayak lamp suitcase trophy umbrella",
        "where": "gym park office school church airport library hotel beach museum stadium hospital station harbor"
        " market theater",
        "when": "monday tuesday wednesday thursday friday saturday sunday christmas easter halloween",
        "feel": "angry sad guilty jealous betrayed ashamed scared confused hurt lonely bitter nervous furious"
        " worried cheated insulted",
        "plan": "forgive confront ignore sue avoid thank block report invite trust pay leave warn call fire evict",
    }.items()
}
SLOT_OF: Mapping[str, str] = {word: slot for slot, words in SLOTS.items() for word in words}

# Literal words, and slots in braces. `someone` and `something` are true but state no fact.
PHRASES: tuple[tuple[str, ...], ...] = tuple(
    tuple(phrase.split())
    for phrase in (
        "{persona} here",
        "my {who} {did} my {what}",
        "my {who} {did} something",
        "my {who} did something",
        "someone {did} my {what}",
        "someone {did} something",
        "at the {where}",
        "on {when}",
        "i feel {feel}",
        "should i {plan} them",
    )
)
SEPARATORS = frozenset({",", ".", "?"})
ENDS = frozenset({".", "?"})

LOWEST, HIGHEST = 1.0, 10.0
PER_INVENTED = 0.75
PER_IDLE = 0.9
NO_END = 0.8

_TOKEN = re.compile(r"[^\W_]+(?:[;'][^\W_]+)*|[^\w\s]")

Fact = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A parsed summary: its facts (slot and word), the number of idle words, and whether it ends a sentence."""

    facts: frozenset[Fact]
    idle: int
    ended: bool


def score(prompt: str, completion: str) -> float:
    """Score a completion, 1.0 to 10.0; always 1.0 if the prompt has no facts."""
    stated, read = facts(prompt), reading(completion)
    if not stated:
        return LOWEST
    covered = len(read.facts & stated) / len(stated)
    losses = PER_INVENTED ** len(read.facts - stated) * PER_IDLE**read.idle * (1.0 if read.ended else NO_END)
    return LOWEST + (HIGHEST - LOWEST) * covered * losses


def facts(post: str) -> frozenset[Fact]:
    """Return the facts of a post: the words that can state one, with their slots."""
    return frozenset((SLOT_OF[word], word) for word in words(post) if word in SLOT_OF)


def words(text: str) -> list[str]:
    """Split into lower-case words and punctuation marks."""
    return _TOKEN.findall(text.lower())


def reading(completion: str) -> Reading:
    """Parse a summary from left to right; words outside phrases, or of phrases without new facts, are idle."""
    tokens = words(completion)
    found: set[Fact] = set()
    at = idle = 0
    while at < len(tokens):
        size = max(map(len, filter(lambda phrase: _fits(phrase, tokens[at:]), PHRASES)), default=0)
        stated = {(SLOT_OF[word], word) for word in tokens[at : at + size] if word in SLOT_OF}
        if not stated - found and not _is_separator(tokens, at):
            idle += max(size, 1)
        found |= stated
        at += max(size, 1)
    return Reading(facts=frozenset(found), idle=idle, ended=bool(tokens) and tokens[-1] in ENDS)


def _fits(phrase: tuple[str, ...], tokens: list[str]) -> bool:
    def fits(part: str, word: str) -> bool:
        return SLOT_OF.get(word) == part[1:-1] if part[0] == "{" else word == part

    return len(tokens) >= len(phrase) and all(map(fits, phrase, tokens))


def _is_separator(tokens: list[str], at: int) -> bool:
    """Return whether the token is a punctuation mark after a word."""
    return tokens[at] in SEPARATORS and at > 0 and tokens[at - 1] not in SEPARATORS
