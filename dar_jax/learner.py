"""The learner: float32 parameters and optimizer state on the mesh, scored and updated by jitted functions.

recall    log pi_t and log pi_ref of the sampled tokens, both by one compiled function
regress   one optimizer update on a part of the batch, its gradient summed over micro-batches
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Lowered
from pydantic import Field
from pydantic.dataclasses import dataclass as settings

from dar_jax import models, parallel
from dar_jax.algorithms import Algorithm
from dar_jax.batches import Batch, Inputs, Rewards, Rollouts
from dar_jax.learning import heads
from dar_jax.learning.learner_state import Abstract, State
from dar_jax.learning.optimizers import OPTIMIZERS, Adafactor, all_finite, chosen, learning_rate
from dar_jax.learning.scoring import completion_logprobs
from dar_jax.models import DecoderConfig, Params, families
from dar_jax.settings.fields import STRICT, Count, Positive, one_of

Metrics = dict[str, jax.Array]
# Among the metrics of an update: 1, or 0 where it was left out.
APPLIED = "optimizer/applied"
COUNTED = "optimizer/counted"
Scores = tuple[jax.Array, jax.Array | None]


@settings(frozen=True, kw_only=True, config=STRICT)
class Learning:
    """How a batch is learnt from; the defaults are the paper's.

    `updates`: "minibatches" cuts a batch into `updates_per_batch` disjoint parts, "passes" goes that often over the
    whole of it. `micro_batch_size` counts completions a forward pass (null: the whole part); `logprob_temperature`
    is that of all three log-probs; `logprob_chunk` counts token positions whose logits are held at once. With `remat`
    layers are computed again on the way back, and only what enters them is kept; without, their products are too.
    `attention` computes recall, regress and the sampler's reading of prompts: `splash` on a TPU and `cudnn` on an
    NVIDIA GPU hold no scores.
    """

    optimizer: one_of(OPTIMIZERS, "adafactor") = Field(default_factory=Adafactor)  # type: ignore[valid-type]
    updates_per_batch: Count = 4
    updates: Literal["minibatches", "passes"] = "minibatches"
    micro_batch_size: Count | None = None
    compute_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    logprob_temperature: Positive = 1.0
    logprob_chunk: Count = 64
    remat: bool = True
    attention: Literal["xla", "splash", "cudnn"] = "xla"

    @property
    def minibatches(self) -> int:
        """Parts that a batch is cut into, each for one update."""
        return self.updates_per_batch if self.updates == "minibatches" else 1


@settings(frozen=True, kw_only=True, config=STRICT)
class Reference:
    """Where pi_ref lies between its uses: on the devices, or in the memory of their hosts (`placement: host`), from
    which it is copied for recall once a step: a copy in the compute dtype less beside sampling and regress.
    """

    placement: Literal["device", "host"] = "device"


class Learner:
    """Hold the compiled functions for one decoder, algorithm and mesh; the state is passed through."""

    def __init__(
        self,
        settings: Learning,
        config: DecoderConfig,
        algorithm: Algorithm,
        mesh: Mesh,
        decode_places: Params | None = None,
    ) -> None:
        self.settings, self.config, self.algorithm, self.mesh = settings, config, algorithm, mesh
        axes, shapes = models.logical_axes(config), models.abstract(config)
        self._moving_shapes, _ = models.split(shapes, config.lora)
        self.optimizer = settings.optimizer.build(models.split(axes, config.lora)[0], families.fused(config))
        self.param_shardings = parallel.shardings(shapes, axes, mesh)
        self._moving_shardings, self.frozen_shardings = models.split(self.param_shardings, config.lora)
        decode_places = decode_places or parallel.shardings(shapes, axes, parallel.decode_mesh(mesh, config.kv_heads))
        self._decode_places, self._frozen_decode_places = models.split(decode_places, config.lora)
        self._whole = NamedSharding(mesh, PartitionSpec())
        self._head = heads.abstract(algorithm.head, config.width, self._whole)
        self._compute = jax.jit(self._cast, out_shardings=self._moving_shardings)
        self._lay_out = jax.jit(self._laid_out, out_shardings=self._decode_places)
        self._scores = jax.jit(self._score, static_argnames="length")
        self._weigh = jax.jit(algorithm.weigh)
        self._take = jax.jit(Batch.take)
        self._moment_shapes = jax.eval_shape(self.optimizer.init, self._moving_shapes)
        moments = self._moment_shardings = self._optimizer_shardings(self._moment_shapes)
        places = {"params": self._moving_shardings, "optimizer": (moments, self._whole), "head": self._whole}
        state = State.of(places, frozen={})
        self._start = jax.jit(self.optimizer.init, out_shardings=moments)
        self._update = jax.jit(self._step, donate_argnames="state", out_shardings=(state, self._whole))

    def init(self, params: Params) -> State:
        """Start from params, of which the first update consumes what it trains; what is frozen stays."""
        moving = jax.device_put(models.split(params, self.config.lora)[0], self._moving_shardings)
        update = parallel.replicated(np.int32(0), self.mesh)
        head = parallel.replicated(heads.begun(self.algorithm.head, self.config.width), self.mesh)
        optimizer = self._start(moving)
        return State(params=moving, optimizer=optimizer, update=update, frozen=self.frozen(params), head=head)

    def reference(self, params: Params, placement: Literal["device", "host"] = "device") -> Params:
        """Give the parameters, in the compute dtype, as the frozen pi_ref: copied, but for what is frozen anyway.

        With adapters it is the model below them: as they start, they add nothing.
        """
        cast = self._compute(models.split(params, self.config.lora)[0])
        if self.settings.compute_dtype == "float32":
            cast = jax.tree.map(jnp.copy, cast)
        copied: Params = models.join(self.frozen(params), cast)
        if placement == "device":
            return copied
        at_host = jax.tree.map(lambda place: place.with_memory_kind("pinned_host"), self.param_shardings)
        return dict(jax.device_put(copied, at_host))

    def decode_params(self, state: State) -> Params:
        """Cast and lay out the policy for sampling: once a step, not once a token."""
        return self._for_decode(state.params, state.frozen)

    def decode_reference(self, reference: Params) -> Params:
        """Lay pi_ref out for sampling, wherever it lies."""
        return self._for_decode(*models.split(self._fetched(reference), self.config.lora))

    def _for_decode(self, moving: Params, frozen: Params) -> Params:
        return models.join(jax.device_put(frozen, self._frozen_decode_places), self._lay_out(moving))

    def recall(self, state: State, reference: Params | None, rollouts: Rollouts) -> Rollouts:
        """Add log pi_t and log pi_ref, as the algorithm needs them.

        Both come from one compiled function: policy == reference gives a log-ratio of exactly 0.
        """
        length = rollouts.mask_completion_BT.shape[1]
        scored: dict[str, Any] = {}
        if "sampling" in self.algorithm.needs:
            policy = models.join(state.frozen, self._compute(state.params))
            scores = self._scores(policy, state.head.params, rollouts.inputs_B, length=length)
            scored["sampling_logprob_BT"], scored["sampling_value_BT"] = scores
        if "reference" in self.algorithm.needs:
            assert reference is not None
            scores = self._scores(self._fetched(reference), {}, rollouts.inputs_B, length=length)
            scored["ref_logprob_BT"], _ = scores
        return dataclasses.replace(rollouts, **scored)

    def weigh(
        self, rollouts: Rollouts, rewards: Rewards | None, memory: Mapping[str, float] | None = None
    ) -> tuple[Batch, Metrics]:
        """Run the algorithm's `weigh`, jitted, with what it carries from step to step, if that is anything."""
        if not memory:
            return self._weigh(rollouts, rewards)
        carried = {name: np.float32(value) for name, value in memory.items()}
        return self._weigh(rollouts, rewards, memory=parallel.replicated(carried, self.mesh))

    def part(self, batch: Batch, index: int, key: jax.Array) -> Batch:
        """Return what update `index` of this batch learns from; the same key gives the same cut."""
        if self.settings.minibatches == 1:
            return batch
        count = batch.weight_E.shape[0]
        size = count // self.settings.minibatches
        order_E = jax.random.permutation(key, count)[index * size : (index + 1) * size]
        return self._take(batch, parallel.replicated(order_E, self.mesh))

    def regress(self, state: State, part: Batch) -> tuple[State, Metrics]:
        """Make one optimizer update; the old state is donated. Metrics are means over the counted examples.

        An update that is not finite, or of a part in which no example counts (`COUNTED` among the metrics is 0), is not
        applied: the state comes back as it was, and `APPLIED` is 0 in place of 1.
        """
        moved, metrics = self._update(dataclasses.replace(state, frozen={}), state.frozen, part)
        return dataclasses.replace(moved, frozen=state.frozen), metrics

    def abstract(self) -> Abstract:
        """Give what a run holds, as shapes with their places: to compile for devices that are not there."""
        dtype = jnp.dtype(self.settings.compute_dtype)

        def cast(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), tree)

        moving, frozen = models.split(models.abstract(self.config), self.config.lora)
        update: Any = jax.ShapeDtypeStruct((), jnp.int32, sharding=self._whole)
        state = State(
            params=parallel.placed(moving, self._moving_shardings),
            optimizer=parallel.placed(self._moment_shapes, self._moment_shardings),
            update=update,
            frozen=parallel.placed(cast(frozen), self.frozen_shardings),
            head=self._head,
        )
        computing = models.join(state.frozen, parallel.placed(cast(moving), self._moving_shardings))
        decode = models.join(self._frozen_decode_places, self._decode_places)
        return Abstract(state=state, computing=computing, decode=parallel.placed(computing, decode))

    def lower_compute_params(self) -> Lowered:
        """Lower what makes the policy's copy in the compute dtype."""
        return self._compute.lower(self.abstract().state.params)

    def lower_decode_params(self) -> Lowered:
        """Lower what makes and lays out the policy's copy to sample from."""
        return self._lay_out.lower(self.abstract().state.params)

    def lower_recall(self, rollouts: Rollouts) -> Lowered:
        """Lower the scoring of abstract rollouts; policy and reference are scored by the same program."""
        length = rollouts.mask_completion_BT.shape[1]
        return self._scores.lower(self.abstract().computing, self._head.params, rollouts.inputs_B, length=length)

    def lower_weigh(self, rollouts: Rollouts, rewards: Rewards | None) -> Lowered:
        """Lower the weighing of abstract rollouts."""
        carried = {
            name: jax.ShapeDtypeStruct((), jnp.float32, sharding=self._whole)
            for name in self.algorithm.initial_memory()
        }
        return self._weigh.lower(rollouts, rewards, **({"memory": carried} if carried else {}))

    def lower_part(self, batch: Batch) -> Lowered:
        """Lower the cut of an abstract batch into minibatches."""
        size = batch.weight_E.shape[0] // self.settings.updates_per_batch
        return self._take.lower(batch, jax.ShapeDtypeStruct((size,), jnp.int32, sharding=self._whole))

    def lower_regress(self, part: Batch) -> Lowered:
        """Lower one optimizer update on an abstract part of a batch."""
        state = self.abstract().state
        return self._update.lower(dataclasses.replace(state, frozen={}), state.frozen, part)

    def frozen(self, params: Params) -> Params:
        """Return what is not trained, in the compute dtype; nothing is copied where it lies so already."""
        placed = jax.device_put(models.split(params, self.config.lora)[1], self.frozen_shardings)
        dtype = jnp.dtype(self.settings.compute_dtype)
        return jax.tree.map(lambda leaf: leaf if leaf.dtype == dtype else leaf.astype(dtype), placed)

    def _fetched(self, reference: Params) -> Params:
        """Give pi_ref on the devices; nothing is copied where it lies there."""
        return dict(jax.device_put(reference, self.param_shardings))

    def _optimizer_shardings(self, state: Any) -> Any:
        """Lay each moment out as the parameter whose path it repeats; counts and Adafactor's factors lie whole."""
        places = dict(jax.tree_util.tree_leaves_with_path(self._moving_shardings))
        shapes = dict(jax.tree_util.tree_leaves_with_path(self._moving_shapes))

        def place(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
            ends = (path[start:] for start in range(len(path)))
            named = (places[end] for end in ends if end in shapes and shapes[end].shape == leaf.shape)
            return next(named, self._whole)

        return jax.tree_util.tree_map_with_path(place, state)

    def _cast(self, params: Params) -> Params:
        return jax.tree.map(lambda leaf: leaf.astype(self.settings.compute_dtype), params)

    def _laid_out(self, params: Params) -> Params:
        """Cast, and lay out for decoding, a layer at a time: XLA may gather whole what changes places."""

        def lay(layer: Params) -> Params:
            return jax.tree.map(jax.lax.with_sharding_constraint, self._cast(layer), places)

        places = jax.tree.map(_without_layers, self._decode_places["layers"])
        layers = jax.lax.map(lay, params["layers"])
        return {**self._cast({name: leaf for name, leaf in params.items() if name != "layers"}), "layers": layers}

    def _score(self, params: Params, head: Any, inputs_B: Inputs, *, length: int) -> Scores:
        def one(inputs: Inputs) -> Scores:
            return self._scored(params, head, inputs, length)

        blocks = _micro_batches(inputs_B, self.settings.micro_batch_size)
        return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(-1, length), jax.lax.map(one, blocks))

    def _scored(
        self, params: Params, head: Any, inputs: Inputs, length: int, *, gradients: Params | None = None
    ) -> Scores:
        """Give `logprob_BT` and what the algorithm's head reads, if it has one."""
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
        """Give the loss whose gradient by `sums` is `sums` plus that by the parameters; of a head, that by its own."""
        examples, rows, length = batch.mask_completion_ERT.shape
        scores = self._scored(
            models.join(frozen, self._lent(state.params, sums[0])),
            heads.lent(state.head, sums[1]),
            jax.tree.map(lambda leaf: leaf.reshape(examples * rows, *leaf.shape[2:]), batch.inputs_ER),
            length,
            gradients=sums[0]["layers"],
        )
        logprob_ERT, *read_ERT = (leaf.reshape(examples, rows, length) for leaf in jax.tree.leaves(scores))
        regress: Callable[..., tuple[jax.Array, Metrics]] = self.algorithm.regress
        return regress(logprob_ERT, batch, *read_ERT)

    def _lent(self, params: Params, sums: Params) -> Params:
        """Lend the parameters in the compute dtype; the layers are lent as they are come to."""
        dtype = jnp.dtype(self.settings.compute_dtype)

        def lend(name: str) -> Any:
            return jax.tree.map(lambda leaf, total: models.lend(leaf, total, dtype), params[name], sums[name])

        return {name: leaf if name == "layers" else lend(name) for name, leaf in params.items()}

    def _step(self, state: State, frozen: Params, part: Batch) -> tuple[State, Metrics]:
        gradient = jax.grad(self._loss, has_aux=True)
        size = self.settings.micro_batch_size
        micro = _micro_batches(part, size and size // self.algorithm.rows_per_example)
        single = len(jax.tree.leaves(micro)[0]) == 1
        # One micro-batch's gradients come in the compute dtype: a wider sum would add bytes and no bit.
        dtype = jnp.dtype(self.settings.compute_dtype if single else jnp.float32)

        def add(carry: tuple[Any, Metrics], micro: Batch) -> tuple[tuple[Any, Metrics], None]:
            sums, metrics = gradient(carry[0], state, frozen, micro)
            return (sums, jax.tree.map(jnp.add, carry[1], metrics)), None

        sums = jax.tree.map(
            lambda leaf, place: jax.lax.with_sharding_constraint(jnp.zeros(leaf.shape, dtype), place),
            state.params,
            self._moving_shardings,
        )
        both = sums, jax.tree.map(jnp.zeros_like, state.head.params)
        _, measured = jax.eval_shape(self._loss, both, state, frozen, jax.tree.map(lambda x: x[0], micro))
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), measured)
        (both, metrics), _ = jax.lax.scan(add, (both, nothing), micro)
        return self._moved(state, both, metrics, part.mask_E.sum())

    def _moved(
        self, state: State, sums: tuple[Params, Any], metrics: Metrics, counted: jax.Array
    ) -> tuple[State, Metrics]:
        """Update by the sums. Where loss, gradient norm or new parameters are not finite, or nothing counted, the state
        is unchanged: weight decay and moments of a gradient of nothing would move it.

        One division for the whole update: means of means would depend on how it was cut.
        """
        least = jnp.maximum(counted, 1)
        metrics = {name: total / least for name, total in metrics.items()}
        head = heads.moved(self.algorithm.head, state.head, sums[1], 1.0 / least)
        wanted = (counted > 0) & jnp.isfinite(metrics["loss"]) & all_finite(head.params)
        params, optimizer, norm, applied = self.optimizer.apply(
            state.params, sums[0], state.optimizer, 1.0 / least, wanted
        )
        rate = learning_rate(self.settings.optimizer)(state.update)
        metrics |= {"optimizer/grad_norm": norm, "optimizer/learning_rate": rate}
        metrics |= {APPLIED: applied.astype(jnp.float32), COUNTED: counted.astype(jnp.float32)}
        head, update = chosen(applied, (head, state.update + 1), (state.head, state.update))
        return State(params=params, optimizer=optimizer, update=update, head=head), metrics


def _without_layers(place: NamedSharding | Format) -> NamedSharding:
    """Place one layer as the stack of all is."""
    stacked = place.sharding if isinstance(place, Format) else place
    assert isinstance(stacked, NamedSharding)
    return NamedSharding(stacked.mesh, PartitionSpec(*stacked.spec[1:]))


def _micro_batches(tree: Any, size: int | None) -> Any:
    """Cut the leading axis into [count, size]. Micro-batch a takes rows a, a + count, ..., so that every device,
    which holds neighbouring rows, has its share of each.
    """

    def cut(array: jax.Array) -> jax.Array:
        rows = array.shape[0]
        each = size or rows
        count = rows // each
        if rows % each:
            raise ValueError(f"{rows} rows are not a multiple of learning.micro_batch_size={each}")
        return array.reshape(each, count, *array.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(cut, tree)
