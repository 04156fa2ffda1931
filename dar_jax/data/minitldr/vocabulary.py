"""The word-level tokenizer of the mini TL;DR, in Hugging Face form."""

from pathlib import Path
from string import Formatter

from dar_jax.chat.scripted.scorers.minitldr import PHRASES, SLOTS, words
from dar_jax.data.minitldr import grammar

UNKNOWN, PAD, END = "<unk>", "<pad>", "<eos>"
# The policy was taught on bare posts and bare summaries: a chat server shall add nothing to the one, and look for none
# of the marks in the other that transformers knows of its model type.
TEMPLATE = "{{ messages | map(attribute='content') | join(' ') }}"
ANSWER = {
    "start_anchor_pattern": r"\Z",
    "defaults": {"role": "assistant"},
    "fields": {"content": {"content": "text", "close": END}},
}


def vocabulary() -> list[str]:
    """List every token: the special ones, then all words and marks of the grammar in alphabetical order."""
    texts = [*grammar.ASIDES, *grammar.FILLERS, *grammar.LOOSE_ENDS, "POST: TL;DR: ,.?"]
    texts += [text for told in grammar.TOLD.values() for text in told]
    texts += [" ".join(phrase) for phrase in PHRASES]
    texts += [text for text, _ in grammar.EVENTS]
    plain = {word for text in texts for word in _outside_braces(text)}
    filled = {word for kind in (SLOTS, grammar.ASIDE_WORDS) for listed in kind.values() for word in listed}
    return [UNKNOWN, PAD, END, *sorted(plain | filled)]


def write_tokenizer(folder: str | Path) -> None:
    """Write tokenizer.json and tokenizer_config.json: lower-case words, each mark by itself, no BOS."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary())}, unk_token=UNKNOWN))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[^\w\s;']"), "isolated")]
    )
    core.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    core.add_special_tokens([AddedToken(token, special=True) for token in (UNKNOWN, PAD, END)])
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
        chat_template=TEMPLATE,
        response_template=ANSWER,
    ).save_pretrained(str(folder))


def _outside_braces(template: str) -> list[str]:
    return [word for literal, *_ in Formatter().parse(template) for word in words(literal)]
