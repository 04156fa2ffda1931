"""Whether the choices of an answer are those that were asked for."""

from collections.abc import Sequence

from dar_jax.chat.wire import AnswerChoice


def stray_index(choices: Sequence[AnswerChoice], asked: int) -> str:
    """Say which of `asked` choices came twice or was never asked for; nothing where all is well.

    Choices without an index pass, as Gemini may leave it out: they answer one question, and none has a place of its
    own in their mean.
    """
    given = [choice.index for choice in choices if choice.index is not None]
    strays = [index for index in given if not 0 <= index < asked]
    if strays:
        return f"the answer holds choice {strays[0]}, but {asked} asked for end at {asked - 1}"
    repeated = [index for index in given if given.count(index) > 1]
    return f"the answer holds choice {repeated[0]} more than once" if repeated else ""
