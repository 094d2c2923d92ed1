"""The 2D Ising model, for the model to learn from; `python ising.py SEED` makes the inputs anew."""

import base64
import json
import sys

import numpy

TEMPERATURES = (2.22, 2.25, 2.28, 2.31, 2.34)
NUMBERS = {8: 120, 48: 52}  # lattices of each size, at each temperature


def lattices(temperature: float, size: int, sweeps: int, seed: int, number: int):
    """So many lattices (number, size, size) of spins 1 and -1, after `sweeps` of Metropolis steps.

    temperature: in units of J / k_B. size: even. The sites are coloured like a chessboard, and
    those of one colour change together: none has a neighbour of its colour.
    """
    random = numpy.random.default_rng(seed)
    spins = numpy.ones((number, size, size), numpy.int8)
    black = numpy.indices((size, size)).sum(0) % 2 == 0
    likely = numpy.exp(-2 / temperature * numpy.arange(-4, 5)).astype(numpy.float32)
    for _ in range(sweeps):
        for colour in (black, ~black):
            around = numpy.roll(spins, 1, 1) + numpy.roll(spins, -1, 1)
            around += numpy.roll(spins, 1, 2) + numpy.roll(spins, -1, 2)
            flip = random.random(spins.shape, numpy.float32) < likely[spins * around + 4]
            spins[flip & colour] *= -1
    return spins


def as_text(spins) -> str:
    """A lattice as a bit a spin, in base 64."""
    return base64.b64encode(numpy.packbits(spins > 0)).decode()


def inputs(seed: int):
    """Yield the lines of inputs/configurations.jsonl; takes some minutes."""
    for size, number in NUMBERS.items():
        for temperature in TEMPERATURES:
            seed += 1
            for spins in lattices(temperature, size, size**2 * 2, 1000 * seed, number):
                row = {"size": size, "temperature": temperature, "spins": as_text(spins)}
                yield json.dumps(row)


if __name__ == "__main__":
    print("\n".join(inputs(int(sys.argv[1]))))
