"""Losses and regularisers of the three GANs, as pure functions. Lower is better for the network that each one trains.

Shapes: logits (n,); images (n, 3, r, r); ws (n, num_ws, w_dim). A penalty comes without its weight, per sample where it
has samples, so that the caller decides on the mean. References stand at each function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

Network = Callable[[Tensor], Tensor]

PL_DECAY = 0.01  # of the running mean of path lengths
LAYOUT_CELLS = 14  # a side: 8 px at 112, a nucleus and a half at 0.5 um/px


def logistic_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return softplus(D(fake)) + softplus(-D(real)) per sample, the discriminator's logistic loss (Goodfellow 2014)."""
    return F.softplus(fake_logits) + F.softplus(-real_logits)


def nonsaturating_g(fake_logits: Tensor) -> Tensor:
    """Return softplus(-D(fake)) per sample, the generator's non-saturating logistic loss (Goodfellow 2014)."""
    return F.softplus(-fake_logits)


def r1_penalty(D: Network, real: Tensor) -> Tensor:
    """Return ||grad_x D(x)||^2 per real image, shape (n,); times gamma / 2 it is R1 (Mescheder et al. 2018, eq. 9)."""
    real = real.detach().requires_grad_()
    return _gradient(D(real).sum(), real).square().sum((1, 2, 3))


def path_length(synthesis: Network, ws: Tensor, image_noise: Tensor) -> Tensor:
    """Return how far each image moves with its styles, shape (n,): ||J_w^T y|| (Karras et al. 2020, section 3.2).

    Args:
        synthesis: ws -> images.
        ws: Styles, attached to the mapping network or not.
        image_noise: y ~ N(0, 1), of the images' shape; divided by sqrt(h * w) here.
    """
    if not ws.requires_grad:
        ws = ws.detach().requires_grad_()
    h, w = image_noise.shape[2:]
    projected = (synthesis(ws) * image_noise).sum() / (h * w) ** 0.5
    return _gradient(projected, ws).square().sum(2).mean(1).sqrt()


def path_length_penalty(lengths: Tensor, mean: Tensor, decay: float = PL_DECAY) -> tuple[Tensor, Tensor]:
    """Return ((lengths - a)^2, a): the penalty per sample, shape (n,), and the new running mean, a detached scalar.

    As published, the mean moves *before* it is compared with, and the gradient flows through its one per cent.
    """
    moved = torch.lerp(mean, lengths.mean(), decay)
    return (lengths - moved).square(), moved.detach()


def relativistic_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the discriminator's relativistic average logistic loss, a scalar (Jolicoeur-Martineau 2018, eq. 10).

    arXiv:1807.00734. Real images should look more real than the average fake, and the reverse.
    Equal logits give 2 ln 2.
    """
    above_fakes, above_reals = real_logits - fake_logits.mean(), fake_logits - real_logits.mean()
    return F.softplus(-above_fakes).mean() + F.softplus(above_reals).mean()


def relativistic_g(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the generator's relativistic average loss, a scalar: ``relativistic_d`` mirrored, both terms."""
    return relativistic_d(fake_logits, real_logits)


def layout_distance(images: Tensor, cells: int = LAYOUT_CELLS) -> Tensor:
    """Return how far the layouts of images (n, 3, h, w) are apart, a scalar: a root mean square over half the pairs.

    A layout is the image as ``cells`` x ``cells`` means without the image's own mean colour, so that tints do not
    count. Image i is compared with image i + n / 2; n must be even.
    """
    layouts = F.adaptive_avg_pool2d(images, cells)
    first, second = (layouts - layouts.mean((2, 3), keepdim=True)).chunk(2)
    return ((first - second).square().mean((1, 2, 3)) + 1e-8).sqrt().mean()


def diversity_penalty(real: Tensor, fake: Tensor) -> Tensor:
    """Return (1 - d(fake) / d(real))^2 where the layouts of the fakes differ less than those of the reals, else 0.

    It has no gradient where fakes are as diverse as reals, and is 1 where all have one layout: what no discriminator
    sees that judges one image at a time. In the spirit of feature matching (Salimans et al. 2016, section 3.1).

    Args:
        real: Shape (n, 3, h, w), n even.
        fake: Of the same shape and range.
    """
    with torch.no_grad():
        wanted = layout_distance(real)
    return (1 - layout_distance(fake) / wanted).clamp(min=0).square()


def interpolate(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Return real * (1 - share) + fake * share, with ``share`` (n, 1, 1, 1) ~ U(0, 1): where the penalty looks."""
    return torch.lerp(real, fake, share)


def gradient_penalty_intended(D: Network, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Return (||grad_x D(x)|| - 1)^2 per interpolated image, shape (n,) (Gulrajani et al. 2017, eq. 3)."""
    return (_norm(_input_gradient(D, interpolate(real, fake, share)), (1, 2, 3)) - 1).square()


def gradient_penalty_released(D: Network, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Return PathologyGAN's gradient penalty as its published code computes it, a scalar.

    There the gradient is wrapped in a list, squaring which adds an axis, so that the sum meant to run over height,
    width and channels runs over batch, height and width: one norm for each colour channel of the *whole batch*; the
    three (norm - 1)^2 are then added, not averaged.
    """
    return (_norm(_input_gradient(D, interpolate(real, fake, share)), (0, 2, 3)) - 1).square().sum()


def orthogonal_penalty(weights: Iterable[Tensor]) -> Tensor:
    """Return the sum over ``weights`` of 1/2 ||W W^T - I||^2, off and on the diagonal, a scalar (Brock et al. 2017).

    Each weight is (outputs, ...); of W W^T and W^T W the smaller one is taken: the larger cannot be the identity.
    """
    total = torch.zeros(())
    for weight in weights:
        W = weight.flatten(1)
        gram = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
        eye = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
        total = total.to(gram.device) + 0.5 * (gram - eye).square().sum()
    return total


def _gradient(scalar: Tensor, inputs: Tensor) -> Tensor:
    return torch.autograd.grad(scalar, inputs, create_graph=True)[0]


def _input_gradient(D: Network, images: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    return _gradient(D(images).sum(), images)


def _norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return x.square().sum(dims).sqrt()
