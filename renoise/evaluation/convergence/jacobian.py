"""The norm of a Jacobian from products with it: ‖∂G/∂z‖ says how fast renoising converges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from renoise.utils.precision import widest_float

TOLERANCE = 1e-3
"""A norm is found once a further pair of products changes it by no more than this share."""
MAX_RESIDUAL = 0.02
"""Largest residual of a norm that is found, see `Norms`."""
MAX_PRODUCTS = 24
"""Most pairs of products, J v and Jᵀ u, for one norm."""
MAX_MISMATCH = 0.05
"""Largest relative difference of vᵀ(JᵀJ v) and ‖J v‖². Beyond it a part of the network hides its derivatives."""

Mapping = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(latents [n, C, h, w], index int64 [n]) -> [n, C, h, w]. `index` says which images of the batch they are."""


@dataclass(frozen=True)
class Norms:
    """Spectral norms of the Jacobians of B images.

    Args:
        values: The largest singular value of each Jacobian, [B]. NaN where the network's output is not finite.
        residual: ‖JᵀJ x − σ² x‖ / 2σ² for each norm σ and its vector x, [B]. Within this share of σ lies a singular
            value.
        products: Pairs of products that each took, int64 [B].
        vectors: The right singular vector of each, [B, C, h, w], of norm 1.
    """

    values: torch.Tensor
    residual: torch.Tensor
    products: torch.Tensor
    vectors: torch.Tensor


class Jacobian:
    """The Jacobian of a mapping at a point, as products with vectors. B images make B Jacobians.

    J v takes forward-mode automatic differentiation, which attention supports as plain matrix products only. It stores
    nothing, unlike a derivative of the derivative.

    Args:
        mapping: The mapping, each image by itself.
        point: Where, [B, C, h, w].
    """

    def __init__(self, mapping: Mapping, point: torch.Tensor) -> None:
        self.mapping, self.point = mapping, point.detach()
        with torch.enable_grad():
            self.input = self.point.clone().requires_grad_()
            self.output = mapping(self.input, torch.arange(len(point), device=point.device))

    def times(self, vectors: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Returns J v of some images.

        Args:
            vectors: [n, C, h, w].
            index: Positions of the images in the batch, int64 [n].

        Raises:
            RuntimeError: A part of the mapping has no forward derivative, or the memory is too small.
        """
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            output = self.mapping(forward_ad.make_dual(self.point[index], vectors), index)
            tangent = forward_ad.unpack_dual(output).tangent
        return torch.zeros_like(vectors) if tangent is None else tangent

    def transposed_times(self, vectors: torch.Tensor) -> torch.Tensor:
        """Returns Jᵀ u of all images, [B, C, h, w].

        Raises:
            RuntimeError: A part of the mapping has no backward derivative, or the memory is too small.
        """
        (product,) = torch.autograd.grad(self.output, self.input, vectors, retain_graph=True)
        return product


def spectral_norms(
    jacobian: Jacobian, start: torch.Tensor, tolerance: float = TOLERANCE, max_products: int = MAX_PRODUCTS
) -> Norms:
    """Returns the norms of B Jacobians by power iteration on JᵀJ, all of whose vectors are kept (the Lanczos method).

    The estimate is the largest singular value of J on the space of all vectors so far. It takes the same products as
    plain power iteration, which keeps the last vector alone, and needs several times fewer of them. It grows with every
    product. An image stops where it grew by no more than the tolerance, and its residual is at most `MAX_RESIDUAL`.

    Args:
        jacobian: Of B images.
        start: Of the power iteration, [B, C, h, w], not 0.
        tolerance: Largest relative change of a norm by the last pair of products.
        max_products: Most pairs of products for an image.

    Raises:
        RuntimeError: The mapping has no derivatives, or those of the two directions contradict each other.

    Example:
        >>> import torch
        >>> from renoise.evaluation.convergence.jacobian import Jacobian, spectral_norms
        >>> jacobian = Jacobian(lambda latents, index: 0.5 * latents, torch.ones(1, 4, 8, 8))
        >>> spectral_norms(jacobian, torch.ones(1, 4, 8, 8)).values
        tensor([0.5000])
    """
    vector = _normalized(start)
    active = torch.arange(len(start), device=start.device)
    unknown = start.new_full((len(start),), torch.nan)
    found = Norms(unknown, unknown.clone(), torch.zeros_like(active), start.clone())
    basis: list[torch.Tensor] = []  # orthonormal, each [B, C · h · w]
    alphas: list[torch.Tensor] = []  # the diagonal of JᵀJ on the basis, each [B], and what is beside it
    betas: list[torch.Tensor] = []
    for count in range(1, min(max_products, start[0].numel()) + 1):
        basis.append(vector.flatten(1))
        image = torch.zeros_like(vector).index_copy(0, active, jacobian.times(vector[active], active))
        product = jacobian.transposed_times(image).flatten(1)
        alphas.append((basis[-1] * product).sum(1))
        _check_adjoint(alphas[-1][active], image.flatten(1).square().sum(1)[active])
        for _ in range(2):  # twice, because rounding leaves a part the first time
            for earlier in basis:
                product = product - (earlier * product).sum(1, keepdim=True) * earlier
        betas.append(product.norm(dim=1))
        before = found.values.clone()
        _update(found, active, count, _ritz(alphas, betas), basis)
        growth = 1 - before[active] / found.values[active]  # NaN at first
        is_done = (growth <= tolerance) & (found.residual[active] <= MAX_RESIDUAL)
        active = active[~(is_done | (found.residual[active] == 0))]
        if len(active) == 0:
            break
        vector = _normalized(product).view_as(start)
    return found


def _check_adjoint(by_backward: torch.Tensor, by_forward: torch.Tensor) -> None:
    difference = (by_backward - by_forward).abs()
    if (difference > MAX_MISMATCH * by_forward + torch.finfo(difference.dtype).eps).any():  # false for NaN
        raise RuntimeError("the forward and backward derivatives of the network contradict each other")


def _ritz(alphas: list[torch.Tensor], betas: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the largest eigenvalue of JᵀJ on the basis, its residual as `Norms` has it, and its vector."""
    dtype = widest_float(alphas[0].device)
    diagonal, beside = (torch.stack(values, 1).to(dtype) for values in (alphas, betas))
    inner = beside[:, :-1]
    tridiagonal = diagonal.diag_embed() + inner.diag_embed(1) + inner.diag_embed(-1)
    values, vectors = torch.linalg.eigh(tridiagonal.nan_to_num(0.0, 0.0, 0.0))
    largest, ritz = values[:, -1].clamp(min=0), vectors[:, :, -1]
    residual = beside[:, -1] * ritz[:, -1].abs()
    residual = torch.where(residual == 0, 0.0, residual / (2 * largest))
    is_finite = diagonal.isfinite().all(1) & beside.isfinite().all(1)
    return torch.where(is_finite, largest, torch.nan), residual, ritz


def _update(
    found: Norms,
    active: torch.Tensor,
    count: int,
    ritz: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    basis: list[torch.Tensor],
) -> None:
    """Writes the estimates after so many products for the images that have not stopped."""
    largest, residual, vectors = (part[active] for part in ritz)
    space = torch.stack([vector[active] for vector in basis], 1)  # [n, count, C · h · w]
    found.values[active] = largest.sqrt().to(found.values)
    found.residual[active] = residual.to(found.residual)
    found.products[active] = count
    combined = (vectors.to(space)[:, None] @ space).view_as(found.vectors[active])
    is_usable = largest.isfinite().view(-1, 1, 1, 1)
    found.vectors[active] = torch.where(is_usable, combined, found.vectors[active])


def _normalized(vectors: torch.Tensor) -> torch.Tensor:
    """Returns vectors of norm 1, [B, …]. A vector of zeros stays 0."""
    norms: torch.Tensor = vectors.flatten(1).norm(dim=1).clamp(min=torch.finfo(vectors.dtype).tiny)
    return vectors / norms.view(-1, *[1] * (vectors.dim() - 1))
