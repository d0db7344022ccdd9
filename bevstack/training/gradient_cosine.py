"""Do tasks pull the shared parameters the same way? Cosine between their gradients, and the norm of each.

Below zero the tasks conflict: a small step for one makes the other worse (Yu et al., NeurIPS 2020, section 2).
"""

import itertools
from collections.abc import Sequence

from torch import Tensor


def cosine_columns(tasks: Sequence[str]) -> tuple[str, ...]:
    """Names of what `gradient_cosines` gives: `cosine/<task>~<task>` for each pair, `gradient_norm/<task>`."""
    pairs = itertools.combinations(tasks, 2)
    return (*(f"cosine/{first}~{second}" for first, second in pairs), *(f"gradient_norm/{task}" for task in tasks))


def gradient_cosines(gradients: Tensor, tasks: Sequence[str]) -> dict[str, float]:
    """Cosine of each pair of tasks and norm of each task.

    Args:
        gradients: (T, P), one row for each task.
        tasks: names of the rows.

    Returns:
        By the names of `cosine_columns`. The cosine with a gradient that is zero is left out: it is not defined.
    """
    norms = gradients.double().norm(dim=1)
    products = (gradients.double() @ gradients.double().T).tolist()
    values = dict(zip((f"gradient_norm/{task}" for task in tasks), norms.tolist(), strict=True))
    for (row, first), (column, second) in itertools.combinations(enumerate(tasks), 2):
        length = float(norms[row] * norms[column])
        if length > 0:
            values[f"cosine/{first}~{second}"] = products[row][column] / length
    return values
