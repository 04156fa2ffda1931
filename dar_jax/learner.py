"""The learner: float32 parameters and optimizer state on the mesh, scored and updated by jitted functions.

recall    log pi_t and log pi_ref of the sampled tokens, both by one compiled function
weigh     the algorithm's `weigh` over the whole global batch
regress   one optimizer update on a part of the batch, its gradient accumulated over micro-batches
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from pydantic import Field
from pydantic.dataclasses import dataclass as settings

from dar_jax import models, parallel
from dar_jax.algorithms import Algorithm
from dar_jax.batches import Batch, Inputs, Rewards, Rollouts
from dar_jax.learning.learner_state import HeadState, State
from dar_jax.learning.optimizers import OPTIMIZERS, Adafactor, all_finite, chosen, learning_rate
from dar_jax.learning.scoring import completion_logprobs
from dar_jax.models import DecoderConfig, Params, families
from dar_jax.settings.fields import STRICT, Count, FreeOnResume, Positive, one_of

Metrics = dict[str, jax.Array]
# Metrics of an update: 1 if it was applied else 0, and the number of counted examples.
APPLIED = "optimizer/applied"
COUNTED = "optimizer/counted"
Scores = tuple[jax.Array, jax.Array | None]


@settings(frozen=True, kw_only=True, config=STRICT)
class Learning:
    """How a batch is learned from; the defaults are the paper's.

    `updates`: "minibatches" splits a batch into `updates_per_batch` disjoint parts, "passes" repeats the whole batch
    that many times. `micro_batch_size` is the number of completions a forward pass (null: the whole part).
    `logprob_temperature` applies to all three log-probs; `logprob_chunk` is the number of token positions whose logits
    are held at once. With `remat` layers are recomputed in the backward pass, and only their inputs are saved; without,
    their matmul outputs are saved too. `attention` is used in recall, regress and prefill: `splash` on a TPU and
    `cudnn` on an NVIDIA GPU hold no attention scores.
    """

    optimizer: one_of(OPTIMIZERS, "adafactor") = Field(default_factory=Adafactor)  # type: ignore[valid-type]
    updates_per_batch: Count = 4
    updates: Literal["minibatches", "passes"] = "minibatches"
    micro_batch_size: FreeOnResume[Count | None] = None
    compute_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    logprob_temperature: Positive = 1.0
    logprob_chunk: FreeOnResume[Count] = 64
    remat: FreeOnResume[bool] = True
    attention: FreeOnResume[Literal["xla", "splash", "cudnn"]] = "xla"

    @property
    def minibatches(self) -> int:
        """The number of parts that a batch is split into, one an update."""
        return self.updates_per_batch if self.updates == "minibatches" else 1


@settings(frozen=True, kw_only=True, config=STRICT)
class Reference:
    """Where the reference model is kept: in device memory, or in pinned host memory (`placement: host`).

    From there it is copied to the devices for recall once a step, and takes no device memory while sampling and
    regressing.
    """

    placement: Literal["device", "host"] = "device"


class Learner:
    """The compiled functions for one decoder, algorithm and mesh; the state is passed in and returned."""

    def __init__(
        self,
        settings: Learning,
        config: DecoderConfig,
        algorithm: Algorithm,
        mesh: Mesh,
        decode_shardings: Params | None = None,
    ) -> None:
        self.settings, self.config, self.algorithm, self.mesh = settings, config, algorithm, mesh
        axes, shapes = models.logical_axes(config), models.abstract(config)
        self._moving_shapes, _ = models.split(shapes, config.lora)
        self.optimizer = settings.optimizer.build(models.split(axes, config.lora)[0], families.fused(config))
        self.param_shardings = parallel.shardings(shapes, axes, mesh)
        self.moving_shardings, self.frozen_shardings = models.split(self.param_shardings, config.lora)
        decode_shardings = decode_shardings or parallel.shardings(
            shapes, axes, parallel.decode_mesh(mesh, config.kv_heads)
        )
        self.decode_shardings, self.frozen_decode_shardings = models.split(decode_shardings, config.lora)
        self.whole = NamedSharding(mesh, PartitionSpec())
        head = jax.eval_shape(lambda: HeadState.init(algorithm.head, config.width))
        self._head = parallel.placed(head, jax.tree.map(lambda _: self.whole, head))
        self.compute_params = jax.jit(self._cast, out_shardings=self.moving_shardings)
        self.decode_layout = jax.jit(self._resharded, out_shardings=self.decode_shardings)
        self.scores = jax.jit(self._score, static_argnames="length")
        self.weigh_program = jax.jit(algorithm.weigh)
        self.take = jax.jit(Batch.take)
        self._moment_shapes = jax.eval_shape(self.optimizer.init, self._moving_shapes)
        moments = self._moment_shardings = self._optimizer_shardings(self._moment_shapes)
        shardings = {"params": self.moving_shardings, "optimizer": (moments, self.whole), "head": self.whole}
        state = State.of(shardings, frozen={})
        self._start = jax.jit(self.optimizer.init, out_shardings=moments)
        self.update_program = jax.jit(self._step, donate_argnames="state", out_shardings=(state, self.whole))

    def init(self, params: Params) -> State:
        """Return the state before the first update, which donates the trained parameters."""
        moving = jax.device_put(models.split(params, self.config.lora)[0], self.moving_shardings)
        update = parallel.replicated(np.int32(0), self.mesh)
        head = parallel.replicated(HeadState.init(self.algorithm.head, self.config.width), self.mesh)
        optimizer = self._start(moving)
        return State(params=moving, optimizer=optimizer, update=update, frozen=self.frozen(params), head=head)

    def reference(self, params: Params, placement: Literal["device", "host"] = "device") -> Params:
        """Return a copy of the parameters in the compute dtype as the reference model; frozen weights are shared.

        With adapters it is the base model, as adapters start at zero.
        """
        cast = self.compute_params(models.split(params, self.config.lora)[0])
        if self.settings.compute_dtype == "float32":
            cast = jax.tree.map(jnp.copy, cast)
        copied: Params = models.join(self.frozen(params), cast)
        if placement == "device":
            return copied
        on_host = jax.tree.map(lambda sharding: sharding.with_memory_kind("pinned_host"), self.param_shardings)
        return dict(jax.device_put(copied, on_host))

    def decode_params(self, state: State) -> Params:
        """Cast and reshard the policy for decoding: once a step, not once a token."""
        return self._for_decode(state.params, state.frozen)

    def decode_reference(self, reference: Params) -> Params:
        """Reshard the reference model for decoding."""
        return self._for_decode(*models.split(self._on_device(reference), self.config.lora))

    def _for_decode(self, moving: Params, frozen: Params) -> Params:
        return models.join(jax.device_put(frozen, self.frozen_decode_shardings), self.decode_layout(moving))

    def recall(self, state: State, reference: Params | None, rollouts: Rollouts) -> Rollouts:
        """Return the rollouts with log pi_t and log pi_ref, if the algorithm needs them.

        Both come from one compiled function: policy == reference gives a log-ratio of exactly 0.
        """
        length = rollouts.mask_completion_BT.shape[1]
        scored: dict[str, Any] = {}
        if "sampling" in self.algorithm.needs:
            policy = models.join(state.frozen, self.compute_params(state.params))
            scores = self.scores(policy, state.head.params, rollouts.inputs_B, length=length)
            scored["sampling_logprob_BT"], scored["sampling_value_BT"] = scores
        if "reference" in self.algorithm.needs:
            assert reference is not None
            scores = self.scores(self._on_device(reference), {}, rollouts.inputs_B, length=length)
            scored["ref_logprob_BT"], _ = scores
        return dataclasses.replace(rollouts, **scored)

    def weigh(
        self, rollouts: Rollouts, rewards: Rewards | None, memory: Mapping[str, float] | None = None
    ) -> tuple[Batch, Metrics]:
        """Return the batch to learn from and metrics: the algorithm's jitted `weigh`, with its memory if it has one."""
        if not memory:
            return self.weigh_program(rollouts, rewards)
        carried = {name: np.float32(value) for name, value in memory.items()}
        return self.weigh_program(rollouts, rewards, memory=parallel.replicated(carried, self.mesh))

    def parts(self, batch: Batch, key: jax.Array) -> list[jax.Array | None]:
        """Return the examples of each update of a batch, as indices; None for the whole batch.

        All are drawn and sent to the devices at once, before the first update: drawing them later would wait for the
        update under way. The same key gives the same split.
        """
        if self.settings.minibatches == 1:
            return [None] * self.settings.updates_per_batch
        order_E = np.asarray(jax.random.permutation(key, batch.weight_E.shape[0]))
        return list(parallel.replicated(np.split(order_E, self.settings.minibatches), self.mesh))

    def part(self, batch: Batch, index_E: jax.Array | None) -> Batch:
        """Return the examples of one update, as `parts` has them."""
        return batch if index_E is None else self.take(batch, index_E)

    def regress(self, state: State, part: Batch) -> tuple[State, Metrics]:
        """Return the state after one optimizer update, and metrics as means over the counted examples.

        The old state is donated. An update that is not finite, or in which no example counts (metric `COUNTED` is 0),
        is not applied: the state is unchanged, and `APPLIED` is 0.
        """
        updated, metrics = self.update_program(dataclasses.replace(state, frozen={}), state.frozen, part)
        return dataclasses.replace(updated, frozen=state.frozen), metrics

    def abstract_state(self) -> State:
        """Return the shapes and shardings of the state; no memory is used."""
        moving, frozen = models.split(models.abstract(self.config), self.config.lora)
        dtype = jnp.dtype(self.settings.compute_dtype)
        frozen = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), frozen)
        update: Any = jax.ShapeDtypeStruct((), jnp.int32, sharding=self.whole)
        return State(
            params=parallel.placed(moving, self.moving_shardings),
            optimizer=parallel.placed(self._moment_shapes, self._moment_shardings),
            update=update,
            frozen=parallel.placed(frozen, self.frozen_shardings),
            head=self._head,
        )

    def frozen(self, params: Params) -> Params:
        """Return the frozen parameters in the compute dtype; those that have it already are not copied."""
        frozen = jax.device_put(models.split(params, self.config.lora)[1], self.frozen_shardings)
        dtype = jnp.dtype(self.settings.compute_dtype)
        return jax.tree.map(lambda leaf: leaf if leaf.dtype == dtype else leaf.astype(dtype), frozen)

    def _on_device(self, reference: Params) -> Params:
        """Move the reference to device memory (no-op if already there)."""
        return dict(jax.device_put(reference, self.param_shardings))

    def _optimizer_shardings(self, state: Any) -> Any:
        """Return shardings of the optimizer state: a moment has its parameter's; counts and Adafactor's factors are
        replicated.
        """
        shardings = dict(jax.tree_util.tree_leaves_with_path(self.moving_shardings))
        shapes = dict(jax.tree_util.tree_leaves_with_path(self._moving_shapes))

        def of_leaf(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
            # optax keeps a moment under the path of its parameter, below paths of its own.
            ends = (path[start:] for start in range(len(path)))
            found = (shardings[end] for end in ends if end in shapes and shapes[end].shape == leaf.shape)
            return next(found, self.whole)

        return jax.tree_util.tree_map_with_path(of_leaf, state)

    def _cast(self, params: Params) -> Params:
        return jax.tree.map(lambda leaf: leaf.astype(self.settings.compute_dtype), params)

    def _resharded(self, params: Params) -> Params:
        """Cast and reshard for decoding, one layer at a time: XLA may all-gather whatever is resharded at once."""

        def reshard(layer: Params) -> Params:
            return jax.tree.map(jax.lax.with_sharding_constraint, self._cast(layer), shardings)

        shardings = jax.tree.map(_without_layers, self.decode_shardings["layers"])
        layers = jax.lax.map(reshard, params["layers"])
        return {**self._cast({name: leaf for name, leaf in params.items() if name != "layers"}), "layers": layers}

    def _score(self, params: Params, head: Any, inputs_B: Inputs, *, length: int) -> Scores:
        def one(inputs: Inputs) -> Scores:
            return self._scored(params, head, inputs, length)

        blocks = _micro_batches(inputs_B, self.settings.micro_batch_size)
        return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(-1, length), jax.lax.map(one, blocks))

    def _scored(
        self, params: Params, head: Any, inputs: Inputs, length: int, *, gradients: Params | None = None
    ) -> Scores:
        """Return `logprob_BT`, and the values of the algorithm's head if it has one."""
        logprob_BT, hidden_BTD = completion_logprobs(
            self.config,
            params,
            inputs,
            length,
            temperature=self.settings.logprob_temperature,
            chunk=self.settings.logprob_chunk,
            gradients=gradients,
            remat=self.settings.remat,
        )
        return logprob_BT, self.algorithm.head.apply(head, hidden_BTD) if self.algorithm.head and head else None

    def _loss(self, sums: tuple[Params, Any], state: State, frozen: Params, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the loss, whose gradient with respect to `sums` is `sums` plus the gradient of the parameters.

        Gradients are accumulated inside the backward pass, so that no second gradient tree is held.
        """
        examples, rows, length = batch.mask_completion_ERT.shape
        scores = self._scored(
            models.join(frozen, self._with_grad_accumulation(state.params, sums[0])),
            state.head.with_grad_accumulation(sums[1]),
            jax.tree.map(lambda leaf: leaf.reshape(examples * rows, *leaf.shape[2:]), batch.inputs_ER),
            length,
            gradients=sums[0]["layers"],
        )
        logprob_ERT, *value_ERT = (leaf.reshape(examples, rows, length) for leaf in jax.tree.leaves(scores))
        regress: Callable[..., tuple[jax.Array, Metrics]] = self.algorithm.regress
        return regress(logprob_ERT, batch, *value_ERT)

    def _with_grad_accumulation(self, params: Params, sums: Params) -> Params:
        """Cast parameters to the compute dtype; stacked layers are cast inside the layer loop."""
        dtype = jnp.dtype(self.settings.compute_dtype)

        def cast(name: str) -> Any:
            accumulate = models.cast_with_grad_accumulation
            return jax.tree.map(lambda leaf, total: accumulate(leaf, total, dtype), params[name], sums[name])

        return {name: leaf if name == "layers" else cast(name) for name, leaf in params.items()}

    def _step(self, state: State, frozen: Params, part: Batch) -> tuple[State, Metrics]:
        gradient = jax.grad(self._loss, has_aux=True)
        size = self.settings.micro_batch_size
        micro = _micro_batches(part, size and size // self.algorithm.rows_per_example)
        single = len(jax.tree.leaves(micro)[0]) == 1
        # The gradient of a single micro-batch is in the compute dtype: a wider sum would add bytes and no precision.
        dtype = jnp.dtype(self.settings.compute_dtype if single else jnp.float32)

        def add(carry: tuple[Any, Metrics], micro: Batch) -> tuple[tuple[Any, Metrics], None]:
            sums, metrics = gradient(carry[0], state, frozen, micro)
            return (sums, jax.tree.map(jnp.add, carry[1], metrics)), None

        sums = jax.tree.map(
            lambda leaf, sharding: jax.lax.with_sharding_constraint(jnp.zeros(leaf.shape, dtype), sharding),
            state.params,
            self.moving_shardings,
        )
        both = sums, jax.tree.map(jnp.zeros_like, state.head.params)
        _, measured = jax.eval_shape(self._loss, both, state, frozen, jax.tree.map(lambda x: x[0], micro))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), measured)
        (both, metrics), _ = jax.lax.scan(add, (both, zeros), micro)
        return self._updated(state, both, metrics, part.mask_E.sum())

    def _updated(
        self, state: State, sums: tuple[Params, Any], metrics: Metrics, counted: jax.Array
    ) -> tuple[State, Metrics]:
        """Return the state updated by the summed gradients, and metrics.

        The state is unchanged if the loss, gradient norm or new parameters are not finite, or if nothing counted:
        weight decay and moments would change it even with a gradient of zero. Sums are divided once for the whole
        update, since means of means would depend on how it was split.
        """
        count = jnp.maximum(counted, 1)
        metrics = {name: total / count for name, total in metrics.items()}
        head = state.head.updated(self.algorithm.head, sums[1], 1.0 / count)
        wanted = (counted > 0) & jnp.isfinite(metrics["loss"]) & all_finite(head.params)
        params, optimizer, norm, applied = self.optimizer.apply(
            state.params, sums[0], state.optimizer, 1.0 / count, wanted
        )
        rate = learning_rate(self.settings.optimizer)(state.update)
        metrics |= {"optimizer/grad_norm": norm, "optimizer/learning_rate": rate}
        metrics |= {APPLIED: applied.astype(jnp.float32), COUNTED: counted.astype(jnp.float32)}
        head, update = chosen(applied, (head, state.update + 1), (state.head, state.update))
        return State(params=params, optimizer=optimizer, update=update, head=head), metrics


def _without_layers(sharding: NamedSharding | Format) -> NamedSharding:
    """Return the sharding of one layer from that of the stacked layers."""
    stacked = sharding.sharding if isinstance(sharding, Format) else sharding
    assert isinstance(stacked, NamedSharding)
    return NamedSharding(stacked.mesh, PartitionSpec(*stacked.spec[1:]))


def _micro_batches(tree: Any, size: int | None) -> Any:
    """Split the leading axis into [count, size]. Micro-batch a takes rows a, a + count, ..., so that every device,
    which holds neighbouring rows, has its share of each.
    """

    def split(array: jax.Array) -> jax.Array:
        rows = array.shape[0]
        each = size or rows
        count = rows // each
        if rows % each:
            raise ValueError(f"{rows} rows are not a multiple of learning.micro_batch_size={each}")
        return array.reshape(each, count, *array.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(split, tree)
