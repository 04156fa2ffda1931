from dar_jax.config.config_file import parse_config
from dar_jax.run.build import uneven_rows


def test_rows_that_do_not_divide_among_the_devices_are_told_for_prompts_and_micro_batches_alike(config_text):
    config = parse_config(config_text, ["learning.micro_batch_size=4", "sampling.chunks=2"], where="run.yaml")
    micro, prompts = uneven_rows(config, {"data": 1, "fsdp": 8, "tensor": 1})
    assert micro.startswith("learning.micro_batch_size: 4 rows cannot be sharded over the 8 chips of data x fsdp")
    assert prompts.startswith("prompts_per_step: 4 prompts a chunk cannot be sharded over the 8 chips")
    assert uneven_rows(config, {"data": 2, "fsdp": 2, "tensor": 2}) == []
