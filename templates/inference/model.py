"""Yours to replace: a model that tells ordered from disordered spins, and how it is trained.

It sees a lattice as 8 x 8 means of its spins, whatever its size: at the critical temperature these
look the same in lattices of all sizes.
"""

import base64

import numpy

import ising

BLOCKS = 8  # means along each side
HIDDEN = 16  # neurons
STEPS, RATE = 600, 0.5  # of the training
ORDERED = (1.6, 1.8, 2.0)  # temperatures whose phase everybody knows
DISORDERED = (2.6, 2.8, 3.0)


class Network:
    """A layer of neurons between the means and the answer, by torch (GPU, CPU) or numpy."""

    def __init__(self, inputs: int, seed: int):
        self.xp, self.on = arrays()
        random = numpy.random.default_rng(seed)
        shapes = ((inputs, HIDDEN), (HIDDEN, 1))
        self.weights = [self.array(random.normal(0, s[0] ** -0.5, s)) for s in shapes]
        self.offsets = [self.array(numpy.zeros(s[1])) for s in shapes]

    def array(self, values):
        return self.xp.asarray(values, dtype=self.xp.float32, **self.on)

    def layers(self, x):
        """The neurons, (lattices, HIDDEN), and the answers, (lattices, 1): 1 is ordered."""
        hidden = self.xp.tanh(x @ self.weights[0] + self.offsets[0])
        return hidden, 1 / (1 + self.xp.exp(-(hidden @ self.weights[1] + self.offsets[1])))

    def ordered(self, lattices: list) -> list[float]:
        """How sure it is, from 0 to 1, that each lattice is in the ordered phase."""
        x = self.array(numpy.stack([means(spins) for spins in lattices]))
        return [float(answer) for answer in self.layers(x)[1][:, 0]]

    def learn(self, x, truth):
        """One step down the gradient of the cross entropy."""
        hidden, answers = self.layers(x)
        wrong = (answers - truth) / len(x)
        back = (wrong @ self.weights[1].T) * (1 - hidden**2)
        for i, (seen, error) in enumerate(((x, back), (hidden, wrong))):
            self.weights[i] = self.weights[i] - RATE * (seen.T @ error)
            self.offsets[i] = self.offsets[i] - RATE * error.sum(0)


def trained(seed: int) -> Network:
    """A network that was shown lattices far from the critical temperature; takes some seconds."""
    x, truth = [], []
    for i, temperature in enumerate(ORDERED + DISORDERED):
        lattices = ising.lattices(temperature, size=16, sweeps=200, seed=10 * seed + i, number=100)
        sign = 1
        for spins in lattices:
            x.append(means(sign * spins))
            truth.append([temperature in ORDERED])
            sign = -sign  # both signs of the spins are the same phase
    network = Network(BLOCKS**2, seed)
    x, truth = network.array(numpy.stack(x)), network.array(numpy.array(truth))
    for _ in range(STEPS):
        network.learn(x, truth)
    return network


def means(spins):
    """A lattice (size, size) as BLOCKS^2 means of its spins, the mean of whose squares is 1."""
    part = len(spins) // BLOCKS
    found = spins.reshape(BLOCKS, part, BLOCKS, part).mean((1, 3)).ravel()
    return found / numpy.sqrt((found**2).mean() + 1e-9)


def spins_of(text: str, size: int):
    """The spins, +1 and -1, of a configuration of the input: an array (size, size)."""
    bits = numpy.frombuffer(base64.b64decode(text), numpy.uint8)
    return numpy.unpackbits(bits)[: size * size].reshape(size, size).astype(float) * 2 - 1


def arrays():
    """torch on a GPU or CPU, else numpy: (the module, where its arrays go)."""
    try:
        import torch
    except ImportError:
        return numpy, {}
    return torch, {"device": "cuda" if torch.cuda.is_available() else "cpu"}
