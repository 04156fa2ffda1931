"""Adapters as PEFT's folder; that PEFT loads it is in tests/test_training_lora.py."""

import jax
import numpy as np
import pytest

from dar_jax import models
from dar_jax.checkpoints.peft import write_adapter
from dar_jax.errors import SettingError
from tests.models.test_lora import ADAPTED, draw


def test_an_adapter_that_is_not_finite_is_refused_by_name(tmp_path):
    adapters, base = models.split(draw(ADAPTED), ADAPTED.lora)
    spoilt = models.join(base, jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), adapters))
    with pytest.raises(SettingError, match=r"base_model\.model\.model\.layers\.0\..*lora_A\.weight.*(NaN|not finite)"):
        write_adapter(tmp_path, ADAPTED, spoilt, "base", "float32")
    assert list(tmp_path.iterdir()) == []
