def mean_of(series) -> tuple[float, float]:
    """The mean of a series of measurements and its standard error, from 16 blocks of it."""
    values = [float(value) for value in series]
    length = max(1, len(values) // 16)
    blocks = []
    for start in range(0, length * (len(values) // length), length):
        blocks.append(sum(values[start : start + length]) / length)
    middle = sum(blocks) / len(blocks)
    variance = sum((block - middle) ** 2 for block in blocks) / (len(blocks) - 1)
    return sum(values) / len(values), (variance / len(blocks)) ** 0.5
