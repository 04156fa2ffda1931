import importlib.util
import json
import shutil
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dar_jax.checkpoints import huggingface
from dar_jax.errors import SettingError
from dar_jax.models.families import FAMILIES
from tests.checkpoints.small_models import small
from tests.models.score import TINY, draw, logits

GOLDEN = Path(__file__).parent.parent / "golden" / "models"
LIVE = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
TIED = replace(TINY, family="qwen2", tied_head=True, qkv_bias=True, qk_norm=None, eos_token_id=(2, 3))


@pytest.fixture
def folder(tmp_path):
    """Give a copy of a small checkpoint that a test may spoil."""
    return Path(shutil.copytree(GOLDEN / "qwen3-tied", tmp_path / "checkpoint"))


def alter(folder, change):
    """Rewrite the tensors of a checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("config", [TINY, TIED], ids=["qwen3", "qwen2-tied"])
@pytest.mark.parametrize("shard_bytes", [5_000_000_000, 8_000])
def test_saved_weights_load_bit_for_bit(tmp_path, config, shard_bytes):
    params = draw(config)
    huggingface.save(tmp_path / "out", config, params, shard_bytes=shard_bytes)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert (len(files) == 2) == (shard_bytes > 1_000_000)
    assert all(path.stat().st_size < 10_000 for path in (tmp_path / "out").glob("model-*"))
    read, again = huggingface.load(tmp_path / "out")
    assert read == huggingface.read_config(tmp_path / "out") == config
    jax.tree.map(np.testing.assert_array_equal, params, again)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_bfloat16_export_is_the_nearest_bfloat16(tmp_path):
    params = draw(TIED)
    huggingface.save(tmp_path / "out", TIED, params, dtype="bfloat16")
    nearest = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    for dtype in (jnp.bfloat16, jnp.float32):
        _, again = huggingface.load(tmp_path / "out", dtype=dtype)
        assert {leaf.dtype for leaf in jax.tree.leaves(again)} == {jnp.dtype(dtype)}
        jax.tree.map(np.testing.assert_array_equal, nearest, again)


def test_tied_head_missing_in_export(tmp_path):
    """Nothing is missing: the file holds the embedding alone, and what loads it has a head."""
    huggingface.save(tmp_path / "out", TIED, draw(TIED))
    names = load_file(tmp_path / "out" / "model.safetensors").keys()
    assert "lm_head.weight" not in names
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is True
    config, params = huggingface.load(tmp_path / "out")
    assert logits(config, params, [[1, 2]]).shape == (1, 2, TIED.vocab_size)


@LIVE
@pytest.mark.parametrize("family", [*FAMILIES, "qwen2-tied"])
def test_transformers_reads_what_is_saved(tmp_path, family):
    import torch
    from transformers import AutoModelForCausalLM

    config = TIED if family == "qwen2-tied" else small(family)
    params = draw(config)
    huggingface.save(tmp_path / "out", config, params, shard_bytes=8_000)
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    assert model.dtype == torch.float32
    token = np.random.default_rng(0).integers(0, config.vocab_size, (2, 12))
    with torch.no_grad():
        found = model(torch.tensor(token)).logits
    np.testing.assert_allclose(found, logits(config, params, token), rtol=0, atol=1e-4)


def test_missing_extra_and_misshapen_are_reported_together(folder):
    def change(tensors):
        del tensors["model.norm.weight"]
        tensors["model.layers.2.mlp.up_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"]
        tensors["model.layers.0.self_attn.q_proj.weight"] = np.zeros((16, 40), np.float32)
        tensors["model.layers.1.mlp.gate_proj.weight"] = np.zeros((24, 16), np.int8)

    alter(folder, change)
    with pytest.raises(SettingError, match=r"do not fit config\.json") as caught:
        huggingface.load(folder)
    for part in (
        "1 missing: model.norm.weight",
        "1 extra: model.layers.2.mlp.up_proj.weight",
        "2 misshapen: model.layers.0.self_attn.q_proj.weight (16, 40) for (40, 16)",
        "model.layers.1.mlp.gate_proj.weight I8 for a float",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_faults_stay_one_readable_line(folder):
    alter(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if "layers" in name])
    with pytest.raises(SettingError, match=r"22 missing: .* and 14 more$"):
        huggingface.load(folder)


def test_a_head_written_beside_a_tied_embedding_must_be_its_copy(folder):
    alter(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"]}))
    assert "head" not in huggingface.load(folder)[1]
    alter(folder, lambda tensors: tensors.update({"lm_head.weight": 2 * tensors["lm_head.weight"]}))
    with pytest.raises(SettingError, match=r"1 extra: lm_head\.weight"):
        huggingface.load(folder)


def test_a_truncated_shard_is_named(tmp_path):
    folder = Path(shutil.copytree(GOLDEN / "qwen3-sharded-bfloat16", tmp_path / "checkpoint"))
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-64])
    with pytest.raises(SettingError, match=r"model-00002-of-00002.safetensors: missing, cut off or damaged"):
        huggingface.load(folder)
    shard.unlink()
    with pytest.raises(SettingError, match=r"model-00002-of-00002.safetensors: missing, cut off or damaged"):
        huggingface.load(folder)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", None, "config.json: no such file"),
        ("config.json", "{", "config.json: not JSON"),
        ("config.json", "[]", "config.json: expected a JSON object, got list"),
        ("model.safetensors", None, "no model.safetensors and no model.safetensors.index.json"),
    ],
)
def test_a_folder_that_is_no_checkpoint(folder, file, content, said):
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(SettingError, match=said):
        huggingface.load(folder)


@pytest.mark.parametrize("source", ["./not/there", "/nowhere", "a/b/c"])
def test_what_is_neither_folder_nor_hub_id(source):
    with pytest.raises(SettingError, match="no such folder, and not a hub id"):
        huggingface.read_config(source)


def test_an_unreachable_hub_is_said(monkeypatch, tmp_path):
    import huggingface_hub

    def refuse(name, allow_patterns):
        raise FileNotFoundError("cannot\nconnect")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(SettingError, match=r"some/model: no such folder here, and the hub .* \(cannot connect\)"):
        huggingface.load("some/model")


def test_a_hub_id_is_fetched_and_read(monkeypatch):
    import huggingface_hub

    asked = []

    def fetch(name, allow_patterns):
        asked.append(allow_patterns)
        return str(GOLDEN / name.split("/")[1])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert huggingface.load("golden/qwen2-tied")[0] == huggingface.read_config(GOLDEN / "qwen2-tied")
    wanted = ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    assert all(any(fnmatch(file, pattern) for pattern in asked[0]) for file in wanted)
    # Mistral's and Llama's own form of the same weights, beside or below.
    for copy in ("consolidated.safetensors", "original/model-00001-of-00002.safetensors"):
        assert not any(fnmatch(copy, pattern) for pattern in asked[0])


def test_save_overwrites_nothing(folder):
    config, params = huggingface.load(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for taken in (folder, folder / "config.json"):
        with pytest.raises(SettingError, match="exists and is not an empty folder"):
            huggingface.save(taken, config, params)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_save_takes_an_empty_folder_and_makes_a_missing_one(tmp_path):
    config, params = huggingface.load(GOLDEN / "qwen3-tied")
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/deep"):
        huggingface.save(tmp_path / name, config, params)
        assert huggingface.read_config(tmp_path / name) == config
    weights = tmp_path / "empty" / "model.safetensors"
    assert weights.stat().st_mode == (tmp_path / "empty" / "config.json").stat().st_mode


def test_a_save_that_fails_leaves_nothing(tmp_path):
    config, params = huggingface.load(GOLDEN / "qwen3-tied")
    with pytest.raises(ValueError, match="embed: shape"):
        huggingface.save(tmp_path / "out", replace(config, vocab_size=3), params)
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_was_killed_is_said(tmp_path):
    config, params = huggingface.load(GOLDEN / "qwen3-tied")
    (tmp_path / "out.part").mkdir()
    with pytest.raises(SettingError, match=r"out.part: left by a save that was cut off; delete it first"):
        huggingface.save(tmp_path / "out", config, params)
    assert (tmp_path / "out.part").exists()
