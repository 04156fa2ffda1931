"""From sampled tokens to text. Text is for the judge and the reader; the learner keeps the tokens."""

from collections.abc import Sequence

from dar_jax.batches import Rollouts
from dar_jax.parallel import to_host
from dar_jax.records import Completion, Prompt
from dar_jax.tokens import Tokenizer


def completions(rollouts: Rollouts, prompts: Sequence[Prompt], tokenizer: Tokenizer) -> list[Completion]:
    """Read each row as a Completion, in row order: the G of the first prompt, then the next prompt's."""
    length = rollouts.mask_completion_BT.shape[1]
    token_BT = to_host(rollouts.token_BS)[:, -length:]
    mask_BT, ended_B = to_host((rollouts.mask_completion_BT, rollouts.ended_B))
    group_size = len(token_BT) // len(prompts)
    return [
        Completion(
            prompt=prompts[row // group_size],
            sample=row % group_size,
            text=tokenizer.decode(token_BT[row][mask_BT[row]].tolist()),
            token_count=int(mask_BT[row].sum()),
            ended=bool(ended_B[row]),
        )
        for row in range(len(token_BT))
    ]
