"""Export a run's policy as a Hugging Face folder from a checkpoint; no optimizer state is built or read.

It is a separate command, so that its failures do not end a run; a run in progress may be exported.
"""

import dataclasses
from pathlib import Path
from typing import Any

from dar_jax import models
from dar_jax.checkpoints import huggingface
from dar_jax.checkpoints.huggingface import Dtype
from dar_jax.checkpoints.peft import write_adapter
from dar_jax.config.config_file import to_yaml
from dar_jax.config.run_config import RunConfig, to_plain
from dar_jax.errors import SettingError
from dar_jax.policies.policy import Policy, is_run, open_policy
from dar_jax.reporting.model_card import Card
from dar_jax.runlog import layout
from dar_jax.sampling import Sampling
from dar_jax.tokens import Tokenizer

# What a generation_config.json may say beside how the next token is drawn, which is the run's to say.
_KEPT = ("bos_token_id", "eos_token_id", "pad_token_id", "max_length", "max_new_tokens")
_AUTO = "AutoTokenizer"
_PROBE = "\n\nThe cat's 1234 na\u00efve words, e.g. (a+b)*2; \u4f60\u597d!"


def export(
    run: Path | str, output: Path, step: int | None = None, dtype: Dtype = "float32", *, adapter: bool = False
) -> None:
    """Write the policy after `step` steps (default: as last saved) to a new folder, atomically: weights, config,
    tokenizer, generation config and a model card.

    Adapters are merged into the weights; with `adapter` only they are written, in PEFT's format.
    """
    if not is_run(run):
        raise SettingError(f"{run}: nothing to export there (no config.yaml with checkpoints); name a run folder")
    with huggingface.new_folder(output) as folder:
        policy = open_policy(run, step)
        assert policy.config is not None
        if adapter:
            _write_adapter(folder, policy, policy.config.policy.path, dtype)
        else:
            params = models.merge(policy.params, policy.decoder.lora)
            huggingface.write_model(folder, dataclasses.replace(policy.decoder, lora=None), params, dtype)
        policy.tokenizer.save(folder)
        _write_generation(folder / "generation_config.json", policy.config.sampling)
        card = dataclasses.replace(
            _card(output.absolute().name, policy, policy.config),
            dtype=dtype,
            adapter=adapter,
            tokenizer_class=_tokenizer_class(folder, policy.tokenizer),
        )
        (folder / "README.md").write_text(card.render(), encoding="utf-8")
    print(f"{output}: step {card.step}{f', update {card.update}' * (card.update > 0)} of {run}, {dtype}")
    if card.tokenizer_class != _AUTO:
        print(
            f"its tokenizer is read by {card.tokenizer_class}; {_AUTO} puts another in its place (see README.md there)"
        )


def _write_adapter(folder: Path, policy: Policy, base: str, dtype: Dtype) -> None:
    if policy.decoder.lora is None:
        raise SettingError(f"--adapter: {policy.source} trained the whole model (no policy.lora); leave --adapter out")
    write_adapter(folder, policy.decoder, policy.params, base, dtype)


def _write_generation(file: Path, sampling: Sampling) -> None:
    """Add the run's sampling settings to generation_config.json, without penalties of the initial model."""
    stated = huggingface.read_json(file)
    drawn: dict[str, Any] = {"do_sample": sampling.temperature > 0}
    if drawn["do_sample"]:
        # Absent, top_k would be 50; 0 is none.
        drawn |= {"temperature": sampling.temperature, "top_k": sampling.top_k or 0, "top_p": sampling.top_p}
    huggingface.write_json(file, {key: stated[key] for key in _KEPT if key in stated} | drawn)


def _tokenizer_class(folder: Path, tokenizer: Tokenizer) -> str:
    """Return the class that reads the exported tokenizer correctly.

    For some model types, Qwen2 among them, `AutoTokenizer` ignores the pre-tokenizer of the files, which is right only
    for the family's own tokenizer.
    """
    from transformers import AutoTokenizer

    text = tokenizer.decode(range(min(tokenizer.vocab_size, 1000))) + _PROBE
    try:
        auto = AutoTokenizer.from_pretrained(folder)
        auto.model_max_length = int(1e30)  # the probe is longer than some models' limit, of which it would warn
        theirs = auto.encode(text, add_special_tokens=False)
    except Exception:  # the library raises what its many readers raise; ours has read it
        theirs = None
    return _AUTO if theirs == tokenizer.encode_text(text) else "PreTrainedTokenizerFast"


def _card(name: str, policy: Policy, config: RunConfig) -> Card:
    folder = layout(policy.source)(policy.source)
    assert policy.number is not None
    step, update = divmod(policy.number, config.learning.updates_per_batch)
    shown = _without_keys(config)
    latest = {
        log: next((row for row in reversed(folder.read(log)) if row["step"] <= step), None)
        for log in ("metrics", "evaluations")
    }
    return Card(
        name=name,
        settings=to_plain(shown),
        settings_yaml=to_yaml(shown),
        hub_id=huggingface.read_json(folder.policy / "config.json").get("_name_or_path"),
        step=step,
        update=update,
        metrics=latest["metrics"],
        evaluation=latest["evaluations"],
    )


def _without_keys(config: RunConfig) -> RunConfig:
    """Return the settings without the location of the judge's key, which is private even though it is no secret."""
    judge: Any = config.judge
    found = {name: None for name in ("api_key_env", "api_key_file") if hasattr(judge, name)}
    return dataclasses.replace(config, judge=dataclasses.replace(judge, **found)) if found else config
