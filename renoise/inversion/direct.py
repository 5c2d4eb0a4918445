"""Direct inversion (Ju et al., arXiv 2310.01506): the way back is put right by the latents that inversion stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from renoise.inversion.base import Inversion, Inverter
from renoise.models.base import Conditioning


@dataclass(frozen=True)
class DirectInverter:
    """Inverts batches; what comes out keeps to its trajectory.

    An editor that samples the image beside its edit, such as prompt-to-prompt, then has the image exactly; the edit's
    own branch is left alone.

    Args:
        inverter: of the trajectory.
    """

    inverter: Inverter

    def invert(self, latents: torch.Tensor, conditioning: Conditioning, images: Sequence[str]) -> Inversion:
        """Inverts B images at once, without guidance as the paper does; see `Inverter.invert`.

        Guidance is the edit's alone: what the image's own branch predicts on the way back has no say.
        """
        inverter = replace(self.inverter, keep_trajectory=True)
        return replace(inverter.invert(latents, conditioning.conditional, images), follows_trajectory=True)
