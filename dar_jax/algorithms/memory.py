"""What an algorithm carries from one step to the next: a few numbers, which a checkpoint keeps."""

from collections.abc import Mapping


class Forgetful:
    """An algorithm that carries nothing; one that does says what it begins with and what it makes of a step."""

    def begin(self) -> dict[str, float]:
        """Return what the first step starts from; `weigh` is given it as `memory` where it is not empty."""
        return {}

    def learnt(self, memory: Mapping[str, float], metrics: Mapping[str, float]) -> dict[str, float]:
        """Return what the next step starts from, by what the last one measured."""
        return dict(memory)
