"""Losses by name: logits and class ids in, a number out.

Logits are `(n, channel, row, col)`; one channel is a sigmoid's, several are a softmax's with the
background first. Targets are class ids `(n, row, col)`: 0 background, 1.. classes, 255 ignored.
Weights are one for each class id, from 0, or None where all weigh the same: a pixel counts as much
as its true class weighs. Lovász, which counts no single pixels, is weighted as a mean of classes,
and with one class not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from geohr.encoding import IGNORE
from geohr.errors import UsageError

# Pixels added to both sides of dice, so that an empty window is no 0/0.
SMOOTH = 1.0

# Pixels, or their weight, that a mean is divided by at least, so that no pixel is no 0/0.
LEAST = 1e-6

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def channel_truth(
    logits: Tensor, target: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Truth by channel and how much it counts.

    Returns:
        `(n, channel, row, col)` of 0 and 1, and `(n, 1, row, col)` of 0, where nothing is
        annotated, and 1 or the class's weight, both float.
    """
    counts = (target != IGNORE).unsqueeze(1).to(logits.dtype)
    ids = target.masked_fill(target == IGNORE, 0).long()
    if weights is not None:
        counts = counts * weights.to(logits)[ids].unsqueeze(1)
    if logits.shape[1] == 1:
        truth = (ids > 0).unsqueeze(1)
    else:
        truth = F.one_hot(ids, logits.shape[1]).movedim(-1, 1)
    return truth.to(logits.dtype), counts


def probabilities(logits: Tensor) -> Tensor:
    """Sigmoid of one channel, softmax over several."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


def log_likelihood(logits: Tensor, truth: Tensor) -> Tensor:
    """Negative log-likelihood of `truth` at each pixel, `(n, 1, row, col)`; truth may be soft."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return -(truth * logits.log_softmax(1)).sum(1, keepdim=True)


def mean_over(values: Tensor, counts: Tensor) -> Tensor:
    """The mean of the pixels that count, weighted; 0 where none does."""
    return (values * counts).sum() / counts.sum().clamp(min=LEAST)


def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy, binary for one channel."""
    truth, counts = channel_truth(logits, target, weights)
    return mean_over(log_likelihood(logits, truth), counts)


def dice(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """1 - Dice coefficient over the batch, the mean of the foreground channels.

    Milletari et al., V-Net, 2016, equation 4, with plain instead of squared sums below.
    """
    truth, counts = channel_truth(logits, target, weights)
    guess = probabilities(logits)
    # The background, which is most of a scene, would drown the classes.
    first = 0 if logits.shape[1] == 1 else 1
    guess, truth = (guess * counts)[:, first:], (truth * counts)[:, first:]
    overlap = (guess * truth).sum((0, 2, 3))
    return (1 - (2 * overlap + SMOOTH) / (guess + truth).sum((0, 2, 3)).add(SMOOTH)).mean()


def focal(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy in which sure pixels count little (Lin et al., 2017, equation 4; gamma 2)."""
    truth, counts = channel_truth(logits, target, weights)
    negative = log_likelihood(logits, truth)
    return mean_over((1 - (-negative).exp()) ** 2 * negative, counts)


def lovasz(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Lovász extension of the Jaccard loss (Berman et al., 2018, equations 8 to 9).

    The hinge form for one channel, Lovász-softmax for several, over the whole batch.
    """
    truth, counts = channel_truth(logits, target, weights)
    kept = counts[:, 0] > 0
    # A 0 that is still a function of the logits, so that the pass has gradients.
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
    if weights is None:
        return torch.stack(each).mean()
    share = weights.to(logits)[present or [0]]
    return torch.stack(each) @ share / share.sum().clamp(min=LEAST)


def lovasz_extension(errors: Tensor, truth: Tensor) -> Tensor:
    """Errors weighted by how much each adds to the Jaccard loss, largest first (algorithm 1)."""
    errors, order = errors.sort(descending=True)
    truth = truth[order]
    shared = truth.sum() - truth.cumsum(0)
    union = truth.sum() + (1 - truth).cumsum(0)
    jaccard = 1 - shared / union
    gain = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.dot(errors, gain)


def boundary(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy over the pixels within 2 of a change of class."""
    truth, counts = channel_truth(logits, target, weights)
    ids = target.masked_fill(target == IGNORE, 0).to(logits.dtype).unsqueeze(1)
    # Max-pooling dilates each class; where the largest and the smallest id differ is an edge.
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


# Losses by the names that `--losses` knows.
LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "dice": dice,
    "focal": focal,
    "lovasz": lovasz,
    "boundary": boundary,
}


def check_losses(names: Sequence[str]) -> None:
    """Refuse a name that is no loss.

    Raises:
        UsageError: With the known ones.
    """
    for name in names:
        if name not in LOSSES:
            raise UsageError(f"losses must name some of {', '.join(LOSSES)}; got {name!r}")


def check_weights(weights: Sequence[float] | None, classes: int) -> None:
    """Refuse weights that are not one for the background and one for each class.

    Args:
        weights: By class id, or None.
        classes: Without the background.

    Raises:
        UsageError: With how many there must be.
    """
    if weights is not None and len(weights) != classes + 1:
        raise UsageError(
            f"class_weights must be {classes + 1} numbers, the background's first; got "
            f"{len(weights)}"
        )


def total_loss(
    logits: Tensor, target: Tensor, names: Sequence[str], weights: Sequence[float] | None = None
) -> Tensor:
    """The sum of the named losses, weighted by class."""
    held = None if weights is None else torch.tensor(weights, device=logits.device)
    return torch.stack([LOSSES[name](logits, target, held) for name in names]).sum()
