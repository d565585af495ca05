"""Losses by name: logits and class ids in, a number out.

Logits are `(n, channel, row, col)`; one channel is a sigmoid's, several are a softmax's with the
background first. Targets are class ids `(n, row, col)`: 0 background, 1.. classes, 255 ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from geohr.errors import UsageError
from geohr.metrics import IGNORE

SMOOTH = 1.0
"""Pixels added to both sides of dice, so that an empty window is no 0/0."""

Loss = Callable[[Tensor, Tensor], Tensor]


def channel_truth(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Truth by channel and where it counts.

    Returns:
        `(n, channel, row, col)` of 0 and 1, and `(n, 1, row, col)` of 0 and 1, both float.
    """
    counts = (target != IGNORE).unsqueeze(1)
    ids = target.masked_fill(target == IGNORE, 0).long()
    if logits.shape[1] == 1:
        truth = (ids > 0).unsqueeze(1)
    else:
        truth = F.one_hot(ids, logits.shape[1]).movedim(-1, 1)
    return truth.to(logits.dtype), counts.to(logits.dtype)


def probabilities(logits: Tensor) -> Tensor:
    """Sigmoid of one channel, softmax over several."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


def log_likelihood(logits: Tensor, truth: Tensor) -> Tensor:
    """Negative log-likelihood of `truth` at each pixel, `(n, 1, row, col)`; truth may be soft."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return -(truth * logits.log_softmax(1)).sum(1, keepdim=True)


def mean_over(values: Tensor, counts: Tensor) -> Tensor:
    """The mean of the pixels that count; 0 where none does."""
    return (values * counts).sum() / counts.sum().clamp(min=1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, binary for one channel."""
    truth, counts = channel_truth(logits, target)
    return mean_over(log_likelihood(logits, truth), counts)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - Dice coefficient over the batch, the mean of the foreground channels.

    Milletari et al., V-Net, 2016, equation 4, with plain instead of squared sums below.
    """
    truth, counts = channel_truth(logits, target)
    guess = probabilities(logits)
    first = 0 if logits.shape[1] == 1 else 1
    guess, truth = (guess * counts)[:, first:], (truth * counts)[:, first:]
    overlap = (guess * truth).sum((0, 2, 3))
    return (1 - (2 * overlap + SMOOTH) / (guess + truth).sum((0, 2, 3)).add(SMOOTH)).mean()


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in which sure pixels count little (Lin et al., 2017, equation 4; gamma 2)."""
    truth, counts = channel_truth(logits, target)
    negative = log_likelihood(logits, truth)
    return mean_over((1 - (-negative).exp()) ** 2 * negative, counts)


def lovasz(logits: Tensor, target: Tensor) -> Tensor:
    """Lovász extension of the Jaccard loss (Berman et al., 2018, equations 8 to 9).

    The hinge form for one channel, Lovász-softmax for several, over the whole batch.
    """
    truth, counts = channel_truth(logits, target)
    kept = counts[:, 0] > 0
    if not kept.any():
        return logits.sum() * 0
    if logits.shape[1] == 1:
        signs = 2 * truth[:, 0][kept] - 1
        errors = F.relu(1 - logits[:, 0][kept] * signs)
        return lovasz_extension(errors, truth[:, 0][kept])
    distance = (truth - probabilities(logits)).abs()
    present = [channel for channel in range(1, logits.shape[1]) if truth[:, channel][kept].any()]
    each = [
        lovasz_extension(distance[:, channel][kept], truth[:, channel][kept])
        for channel in present or [0]
    ]
    return torch.stack(each).mean()


def lovasz_extension(errors: Tensor, truth: Tensor) -> Tensor:
    """Errors weighted by how much each adds to the Jaccard loss, largest first (algorithm 1)."""
    errors, order = errors.sort(descending=True)
    truth = truth[order]
    shared = truth.sum() - truth.cumsum(0)
    union = truth.sum() + (1 - truth).cumsum(0)
    jaccard = 1 - shared / union
    gain = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.dot(errors, gain)


def boundary(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy over the pixels within 2 of a change of class."""
    truth, counts = channel_truth(logits, target)
    ids = target.masked_fill(target == IGNORE, 0).to(logits.dtype).unsqueeze(1)
    highest = F.max_pool2d(ids, 5, stride=1, padding=2)
    lowest = -F.max_pool2d(-ids, 5, stride=1, padding=2)
    return mean_over(log_likelihood(logits, truth), counts * (highest != lowest))


def distillation(logits: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy against another network's probabilities, over every pixel.

    Hinton et al., 2015, section 2, at temperature 1; less the teacher's own entropy, so that 0
    is the best there is.
    """
    soft = probabilities(teacher)
    return (log_likelihood(logits, soft) - log_likelihood(teacher, soft)).mean()


LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "dice": dice,
    "focal": focal,
    "lovasz": lovasz,
    "boundary": boundary,
}
"""Losses by the names that `--losses` knows."""


def check_losses(names: Sequence[str]) -> None:
    """Refuse a name that is no loss.

    Raises:
        UsageError: With the known ones.
    """
    for name in names:
        if name not in LOSSES:
            raise UsageError(f"losses must name some of {', '.join(LOSSES)}; got {name!r}")


def total_loss(logits: Tensor, target: Tensor, names: Sequence[str]) -> Tensor:
    """The sum of the named losses."""
    return torch.stack([LOSSES[name](logits, target) for name in names]).sum()
