"""A program with a loop in a loop, and the same without: what counts the one right counts the other alike."""

import jax
import jax.numpy as jnp

TURNS = 3


def layer(hidden, weight):
    return jnp.tanh(hidden @ weight)


def looped(hidden, weights):
    def turn(hidden, weight):
        return jax.lax.fori_loop(0, TURNS, lambda _, hidden: layer(hidden, weight), hidden), None

    return jax.lax.scan(turn, hidden, weights)[0]


def unrolled(hidden, weights):
    for weight in weights:
        for _ in range(TURNS):
            hidden = layer(hidden, weight)
    return hidden
