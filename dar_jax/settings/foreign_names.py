"""The names that TRL and the papers use for our settings, so that a refusal can suggest the right key."""

from collections.abc import Mapping

_RATE, _BATCH = "learning.optimizer.learning_rate", "learning.micro_batch_size"
_RUN_DIR = "the option --run-dir DIR of dar-jax train"

# Most are TRL's, at the top level of a config file; the last word of a longer key is looked up too.
_OURS: Mapping[str, str] = {
    "adam_beta1": "learning.optimizer.beta1",
    "adam_beta2": "learning.optimizer.beta2",
    "adam_epsilon": "learning.optimizer.epsilon",
    "attn_implementation": "learning.attention",
    "batch_size": "prompts_per_step",
    "bf16": "learning.compute_dtype=bfloat16",
    "cliprange": "algorithm.clip",
    "dataset": "data.path",
    "dataset_config": "data.subset",
    "dataset_name": "data.path",
    "dataset_test_split": "evaluation.data.split",
    "dataset_train_split": "data.split",
    "do_eval": "evaluation",
    "dtype": "learning.compute_dtype",
    "epsilon": "algorithm.clip",
    "eval_dataset": "evaluation.data",
    "eval_steps": "evaluation.every_steps",
    "eval_strategy": "evaluation.every_steps",
    "fp16": "learning.compute_dtype",
    "gamma": "algorithm.discount",
    "gradient_accumulation_steps": f"{_BATCH} (completions of one forward pass, all devices together)",
    "gradient_checkpointing": "learning.remat",
    "kl_coef": "algorithm.kl_coef",
    "learning_rate": _RATE,
    "lora_alpha": "policy.lora.alpha",
    "lora_r": "policy.lora.rank",
    "lora_target_modules": "policy.lora.targets",
    "loss_type": "algorithm.name",
    "lr": _RATE,
    "max_grad_norm": "learning.optimizer.max_grad_norm",
    "max_length": "sampling.max_prompt_length and sampling.max_completion_length",
    "max_completion_length": "sampling.max_completion_length",
    "max_new_tokens": "sampling.max_completion_length",
    "max_prompt_length": "sampling.max_prompt_length",
    "max_steps": "steps",
    "missing_eos_penalty": "algorithm.missing_eos_penalty",
    "model_name_or_path": "policy.path",
    "num_generations": "group_size",
    "num_iterations": "learning.updates_per_batch, with learning.updates=passes",
    "num_mini_batches": "learning.updates_per_batch",
    "num_ppo_epochs": "learning.updates_per_batch, with learning.updates=passes",
    "num_train_epochs": "steps",
    "optim": "learning.optimizer.name",
    "output_dir": _RUN_DIR,
    "per_device_train_batch_size": f"{_BATCH} (of all devices together); a step's prompts are prompts_per_step",
    "resume_from_checkpoint": "the command dar-jax train --resume RUN_DIR",
    "reward_funcs": "judge",
    "reward_model": "judge",
    "reward_model_path": "judge",
    "rho": "algorithm.alpha_ratio",
    "rloo_k": "group_size",
    "run_name": _RUN_DIR,
    "save_steps": "checkpoints.every_steps",
    "save_total_limit": "checkpoints.keep",
    "scale_rewards": "algorithm.scale (grpo) or algorithm.normalize",
    "system_prompt": "tokenizer.system",
    "tau": "algorithm.total_regularization",
    "temperature": "sampling.temperature",
    "top_k": "sampling.top_k",
    "top_p": "sampling.top_p",
    "torch_dtype": "learning.compute_dtype",
    "train_dataset": "data.path",
    "use_peft": "policy.lora",
    "vf_coef": "algorithm.value_coef",
    "warmup_steps": "learning.optimizer.warmup_updates",
    "weight_decay": "learning.optimizer.weight_decay",
    "whiten_rewards": "algorithm.normalize",
}
# Whole keys, where the last word alone means something else.
_KEYS: Mapping[str, str] = {
    "algorithm.alpha": "algorithm.kl_ref_coef (the 2025 paper's alpha), with algorithm.kl_sampling_coef",
    "algorithm.beta": "algorithm.kl_sampling_coef (the 2025 paper's beta), with algorithm.kl_ref_coef",
    "alpha": "algorithm.kl_ref_coef",
    "beta": "algorithm.kl_coef (grpo, rloo, ppo), algorithm.beta (DPO) or algorithm.total_regularization (dar)",
    "learning.optimizer.epsilon": "learning.optimizer.name=adamw, which has an epsilon",
    "lambda": "algorithm.lam",
    "model": "policy.path",
    "policy.model": "policy.path",
    "policy.name": "policy.path",
}
# In these sections the names above mean something else.
_OWN = ("judge", "evaluation", "compare")
_NOTHING: Mapping[str, str] = {
    "ddp_timeout": "write the options --start-timeout and --lost-after",
    "logging_dir": "the run folder holds metrics.jsonl",
    "logging_first_step": "every step is in metrics.jsonl",
    "logging_steps": "every step is in metrics.jsonl",
    "logging_strategy": "every step is in metrics.jsonl",
    "lr_scheduler_type": "the learning rate is constant after learning.optimizer.warmup_updates",
    "per_device_eval_batch_size": "an evaluation needs none; evaluation.prompts is the number of its prompts",
    "push_to_hub": "export the policy with dar-jax export",
    "remove_unused_columns": "other columns of the data are kept",
    "report_to": "every step is in metrics.jsonl of the run folder",
    "trust_remote_code": "code in a model folder is never run",
    "use_vllm": "the sampler is part of the training program",
    "warmup_ratio": "write learning.optimizer.warmup_updates",
}


def our_key(key: str) -> str | None:
    """Return our key for a setting that is called `key` elsewhere, or a phrase that replaces it; None if unknown."""
    section, _, word = key.rpartition(".")
    found = _KEYS.get(key) or (None if section.startswith(_OWN) else _OURS.get(word))
    return None if found == key else found


def replacement(key: str) -> str | None:
    """Return what to write in place of a setting that does not exist; None for a name that is not TRL's either."""
    if found := our_key(key):
        return f"write {found}"
    return _NOTHING.get(key.rpartition(".")[2])
