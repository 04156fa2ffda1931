import numpy as np

from dar_jax.parallel import MeshShape
from dar_jax.sampling import recorded

MESH = MeshShape(devices=1).build()


def test_prompts_lie_left_of_completions_with_padding_outside():
    made = recorded([[5, 6, 7], [8]], [[1, 2], [3, 4, 9]], 64, 64, MESH)
    assert made.inputs_B.token_BT.shape == (2, 32)
    np.testing.assert_array_equal(made.inputs_B.token_BT[0, 12:20], [0, 5, 6, 7, 1, 2, 0, 0])
    np.testing.assert_array_equal(made.inputs_B.token_BT[1, 14:20], [0, 8, 3, 4, 9, 0])
    np.testing.assert_array_equal(made.inputs_B.mask_BS.sum(1), [5, 4])
    np.testing.assert_array_equal(made.mask_completion_BT, made.inputs_B.mask_BS[:, 16:])
    np.testing.assert_array_equal(made.mask_completion_BT.sum(1), [2, 3])
    assert made.sampler_logprob_BT is None


def test_padding_ids_inside_a_completion_are_tokens():
    made = recorded([[0, 0]], [[0, 0, 0]], 64, 64, MESH)
    np.testing.assert_array_equal(made.inputs_B.mask_BS.sum(1), [5])


def test_a_completion_that_is_cut_has_not_ended():
    made = recorded([[5]] * 3, [[7] * 3 + [2], [7] * 4 + [2], [7] * 40 + [2]], 8, 4, MESH)
    np.testing.assert_array_equal(made.ended_B, [True, False, False])
    np.testing.assert_array_equal(made.mask_completion_BT.sum(1), [4, 4, 4])
    np.testing.assert_array_equal(made.inputs_B.token_BT[:, -4:], [[7, 7, 7, 2], [7] * 4, [7] * 4])


def test_sizes_are_buckets_capped_by_the_limits():
    assert recorded([[1] * 20], [[1] * 9], 20, 9, MESH).inputs_B.token_BT.shape == (1, 29)
    assert recorded([[1] * 20], [[1] * 9], 512, 512, MESH).inputs_B.token_BT.shape == (1, 24 + 16)
