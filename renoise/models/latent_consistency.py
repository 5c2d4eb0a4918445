"""Latent consistency models (arXiv 2310.04378) that were distilled as whole networks."""

from __future__ import annotations

from renoise.models.stable_diffusion import StableDiffusion


class LatentConsistency(StableDiffusion):
    """Stable Diffusion distilled to a few steps, with the guidance scale as an input of the network.

    Such a checkpoint, LCM_Dreamshaper_v7 for example, has the parts of Stable Diffusion under another pipeline class.
    """

    pipeline_class = "LatentConsistencyModelPipeline"
    checked_with = "pipelines of random weights"
