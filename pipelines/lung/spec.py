"""What a cohort of lung mosaics is made of."""

from dataclasses import dataclass

from pydantic import Field

from wsi_mil.contracts.spec import Spec

IMAGE_PX, MPP = 224, 0.5
NORMAL, CARCINOMAS = "lung_n", ("lung_aca", "lung_scc")
GLASS = (243, 242, 244)


class MosaicSpec(Spec):
    """One form of the cohort.

    Training and validation slides come from the first half of the centres, test slides from the second half.
    A single centre has all slides.
    """

    slides: dict[str, int] = Field(
        {"train": 48, "val": 16, "test": 36}, description="slides of each part, half of them normal"
    )
    side: int = Field(12, ge=4, description="images along a side of the mosaic")
    lesions: tuple[int, int] = (1, 3)
    lesion_images: tuple[int, int] = (1, 12)
    centres: int = Field(1, ge=1)
    slide_jitter: float = Field(0.05, description="standard deviation of the log stain gains of a slide")
    centre_jitter: float = Field(0.0, description="standard deviation of the log stain gains of a centre")
    blur_px: tuple[float, float] = Field((0.0, 0.0), description="range of a centre's defocus at 0.5 µm/px")
    zoom: tuple[float, float] = (0.93, 1.07)
    seed: int = 0


@dataclass(frozen=True)
class Centre:
    """A laboratory: gains of haematoxylin, eosin and residual, and the defocus of its scanner."""

    name: str
    gains: tuple[float, float, float]
    blur_px: float
