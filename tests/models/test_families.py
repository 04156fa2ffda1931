import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dar_jax import models
from dar_jax.errors import SettingError
from dar_jax.models import families
from dar_jax.models.families.family import Kernel, Plain

GOLDEN = sorted((Path(__file__).parent.parent / "golden" / "models").glob("*/config.json"))
QWEN3 = json.loads(next(path for path in GOLDEN if path.parent.name == "qwen3-tied").read_text())
QWEN2 = json.loads(next(path for path in GOLDEN if path.parent.name == "qwen2-tied").read_text())


def hf_config(name: str, **changes) -> dict:
    """Spell a small model of a family as its config.json would."""
    family = families.FAMILIES[name]
    return {**QWEN2, "architectures": [family.architecture], "model_type": name, "head_dim": 6, **changes}


@pytest.mark.parametrize("path", GOLDEN, ids=[path.parent.name for path in GOLDEN])
def test_what_is_written_reads_the_same(path):
    config = families.read(json.loads(path.read_text()))
    assert families.read(json.loads(json.dumps(families.write(config)))) == config
    assert hash(config) == hash(families.read(families.write(config)))


def test_sizes_and_switches_come_from_the_file():
    config = families.read(QWEN3)
    assert (config.width, config.heads, config.kv_heads, config.head_size) == (16, 4, 1, 10)
    assert (config.tied_head, config.qkv_bias, config.qk_norm, config.norm_eps) == (True, False, "head", 1e-5)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, None)
    assert families.read(QWEN2).qkv_bias


def test_both_spellings_of_the_rope_base():
    plain = {key: value for key, value in QWEN3.items() if key != "rope_parameters"}
    for spelling in (
        {"rope_theta": 5e5},
        {"rope_theta": 5e5, "rope_scaling": None},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
        {"rope_theta": 5e5, "rope_parameters": {"rope_theta": 500_000, "rope_type": "default"}},
    ):
        assert families.read(plain | spelling).rope.base == 5e5


def test_gemma_3_knows_no_cap_of_attention_scores():
    """transformers keeps the key and never applies it; Gemma 2 does."""
    caps = {"attn_logit_softcapping": 1.0, "query_pre_attn_scalar": 6}
    assert families.read(hf_config("gemma3_text", **caps)).score_cap is None
    assert families.read(hf_config("gemma2", **caps)).score_cap == 1.0


def test_a_model_type_alone_and_several_eos_are_enough():
    config = families.read({**QWEN3, "architectures": None, "eos_token_id": [2, 5]})
    assert config.family == "qwen3"
    assert config.eos_token_id == (2, 5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"architectures": ["Qwen3MoeForCausalLM"]},
            "Qwen3MoeForCausalLM is not supported; supported: Qwen2For",
        ),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "Qwen3ForSequenceClassification is not supported"),
        ({"architectures": None, "model_type": None}, "is not supported"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"attention_bias": True}, "attention_bias True"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported, only 'silu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 4.0}},
            "rope scaling 'dynamic' is not supported, only",
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 1.0}}, "mscale: Unexpected keyword argument"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "low_freq_factor: Field required"),
        ({"rope_theta": 3.0}, "two values of rope_theta"),
        ({"rope_parameters": None}, "'rope_theta' is missing"),
        ({"rope_parameters": "none"}, "wrong type"),
        ({"num_key_value_heads": 3}, "4 query heads cannot share 3"),
        ({"head_dim": 5}, "head size 5 is odd"),
        ({"hidden_size": "wide"}, "width: .* got 'wide'"),
        ({"rms_norm_eps": -1}, "norm_eps"),
    ],
)
def test_what_cannot_be_honoured_is_refused(change, said):
    with pytest.raises(SettingError, match=said) as caught:
        families.read({**QWEN3, **change}, "here/config.json")
    assert str(caught.value).startswith("here/config.json: ")
    assert "\n" not in str(caught.value)


def test_a_missing_size_is_named():
    with pytest.raises(SettingError, match="'num_key_value_heads' is missing; Qwen3ForCausalLM needs it"):
        families.read({key: value for key, value in QWEN3.items() if key != "num_key_value_heads"})


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_parameter_of_a_family_has_one_line_in_its_table(name):
    config = replace(families.read(hf_config(name)), tied_head=False)

    def paths(tree, path=()):
        if not isinstance(tree, dict):
            return {path}
        return {found for key, node in tree.items() for found in paths(node, (*path, key))}

    rows = families.FAMILIES[name].tensors
    assert paths(models.abstract(config)) == {row.path for row in rows}
    assert len({row.path for row in rows}) == len(rows)
    held = {row.name: {each.path for each in rows if each.name == row.name} for row in rows}
    assert all(held[row.name] == set(row.fused_with or [row.path]) for row in rows)


@pytest.mark.parametrize(
    ("lies", "shape", "in_file"),
    [
        (Kernel(), (16, 4, 6), (24, 16)),
        (Kernel(inputs=2), (4, 6, 16), (16, 24)),
        (Plain(), (4, 6), (24,)),
        (Plain(axes=2), (32, 16), (32, 16)),
    ],
)
def test_a_tensor_laid_out_and_back_is_the_same(lies, shape, in_file):
    array = np.arange(np.prod(shape)).reshape(shape)
    tensor = lies.to_hf(array)
    assert tensor.shape == lies.hf_shape(shape) == in_file
    np.testing.assert_array_equal(lies.to_ours(tensor, shape), array)
