"""The denoiser as a model of motion, by name or path; nothing of training is loaded for it."""

from __future__ import annotations

from pathlib import Path

from geodiff.tasks.motion_models import shipped_models
from geodiff.tasks.track_denoiser import DenoiserMotion


def load_denoiser(name_or_path: str) -> DenoiserMotion:
    """Load a trained model of motion.

    Raises:
        GeodiffError: missing, corrupt, or of another kind.
    """
    shipped = shipped_models()
    if name_or_path in shipped:
        return DenoiserMotion.load(shipped[name_or_path], name=name_or_path)
    return DenoiserMotion.load(Path(name_or_path))
