"""Draws docs/sensor_model.png: the steps of the sensor model on two dates of a synthetic place.

Run from the root of the repository: ``python docs/sensor_model.py``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import torch

from geodiff.model.optics import see
from geodiff.model.simulate import SimulationConfig, changed, noisy, optics, under_sky
from geodiff.schema import BANDS_10M
from geodiff.sensor import band_mtf
from geodiff.tasks.train_synthetic import SyntheticGround

PLACE, SIDE = (1_400, 2_900), 256
DATES = (12, 15)
SEED = 11


def pictures() -> list[list[tuple[str, torch.Tensor]]]:
    """Rows of named images (band, y, x) or masks (y, x)."""
    ground = SyntheticGround(1)
    rows, cols = (slice(start, start + SIDE) for start in PLACE)
    truth = torch.from_numpy(ground.read(DATES, rows, cols))[None]
    config = SimulationConfig(
        mtf=band_mtf(BANDS_10M),
        cloudy_date=1.0,
        cloudy_target=0.0,
        cloud_cover=(0.25, 0.3),
        cloud_height_m=(900.0, 1_000.0),
        missed_cloud=1.0,
        overmasked_date=1.0,
        mask_growth_px=1,
    )
    generator = torch.Generator().manual_seed(SEED)
    shift = torch.tensor([[[0.0, 0.0], [0.8, -0.6]]])
    low = optics(truth, shift, config, generator)
    other = changed(low, config, generator)
    seen, masked = under_sky(other, torch.tensor([10.0]), config, generator)
    delivered = noisy(seen, config, generator)
    plain = see(truth, config.scale, config.mtf)
    return [
        [
            ("truth", truth[0, date]),
            ("through the optics", plain[0, date]),
            ("displaced", low[0, date]),
            ("season, light, air", other[0, date]),
            ("clouds, shadows, noise", delivered[0, date]),
            ("mask", masked[0, date].float()),
        ]
        for date in range(2)
    ]


def main() -> None:
    """Write the picture beside this script."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    table = pictures()
    figure, axes = plt.subplots(2, 6, figsize=(13, 4.6), layout="constrained")
    for row, (line, label) in enumerate(zip(table, ("target", "another date"), strict=True)):
        for ax, (name, image) in zip(axes[row], line, strict=True):
            if image.ndim == 3:
                ax.imshow((image[[2, 1, 0]].permute(1, 2, 0) / 0.3).clamp(0, 1) ** 0.8, interpolation="nearest")
            else:
                ax.imshow(image, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[], title=name if row == 0 else "")
        axes[row][0].set_ylabel(label)
    figure.savefig(Path(__file__).with_name("sensor_model.png"), dpi=80)


if __name__ == "__main__":
    main()
