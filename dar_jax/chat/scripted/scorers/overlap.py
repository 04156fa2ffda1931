"""Score a short summary of a text by the words they share; made for docstrings and their first lines.

Four parts, each 0 to 1, weighted as below: how much of the text's weight the summary's content words cover, how much of
the summary is taken from the text, brevity, and whether it is one complete sentence. The coverage of a long summary
counts little, and form counts only as far as the summary is about the text. A list of words can game it: it replaces a
judge in tests, and does not measure quality.
"""

import math
import re
from collections import Counter

COVERED, FAITHFUL, BRIEF, ENDED = 0.6, 0.15, 0.1, 0.15
LOWEST, HIGHEST = 1.0, 10.0
# A summary line has about this many content words; more do not raise the score.
TERMS = 6
# A word that first occurs after this many others has half the weight.
EARLY = 20.0
LONGEST_BRIEF, LONGEST = 14, 40

_WORD = re.compile(r"[^\W\d_]+(?:_[^\W\d_]+)*|\d+")
_ENDINGS = ("ing", "ies", "ed", "es", "ly", "s")
_FUNCTION_WORD_LIST = (
    "a about after all also an and any are as at be been before but by can do does each either else every for "
    "from had has have if in into is it its may more must no not of on one only or other otherwise out over "
    "return returns same should so some such than that the their them then there these they this those to "
    "two up use used using via was were what when where whether which while will with without would you your"
)
_FUNCTION_WORDS = frozenset(_FUNCTION_WORD_LIST.split())


def score(prompt: str, completion: str) -> float:
    """Score a completion, 1.0 to 10.0; one without any content word gets 1.0."""
    text, summary = content_words(prompt), content_words(completion)
    if not summary:
        return LOWEST
    brief, faithful = _brief(completion), _faithful(text, summary)
    form = FAITHFUL + BRIEF * brief + ENDED * _ended(completion)
    share = COVERED * _covered(text, summary) * brief + form * faithful
    return LOWEST + (HIGHEST - LOWEST) * share


def content_words(text: str) -> list[str]:
    """Return the content words, in lower case and without common endings."""
    words = (word.lower() for word in _WORD.findall(text))
    return [_stem(word) for word in words if word not in _FUNCTION_WORDS and len(word) > 1]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _covered(text: list[str], summary: list[str]) -> float:
    """Return the weight of the shared words, relative to the highest that `TERMS` words could have."""
    weight = _weights(text)
    best = sum(sorted(weight.values(), reverse=True)[:TERMS])
    shared = sorted((weight.get(word, 0.0) for word in set(summary)), reverse=True)[:TERMS]
    return sum(shared) / best if best else 0.0


def _weights(text: list[str]) -> dict[str, float]:
    """Return the weight of each word of the text: higher for early words, a little higher for repeated ones."""
    first = {word: position for position, word in reversed(list(enumerate(text)))}
    return {word: (1.0 + math.log(count)) / (1.0 + first[word] / EARLY) for word, count in Counter(text).items()}


def _faithful(text: list[str], summary: list[str]) -> float:
    """Return the share of the summary that is distinct words of the text; repetitions lower it."""
    return len(set(summary) & set(text)) / len(summary)


def _brief(completion: str) -> float:
    count = len(completion.split())
    return max(0.0, min(1.0, (LONGEST - count) / (LONGEST - LONGEST_BRIEF)))


def _ended(completion: str) -> float:
    text = completion.strip()
    one_sentence = "\n" not in text and text.count(". ") == 0
    return (text[0].isupper() + text.endswith((".", "!", "?")) + one_sentence) / 3.0
