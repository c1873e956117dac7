"""Training and measuring one method of the study of attention on images."""

from dataclasses import dataclass

import torch

from pipelines.attention.images import SIDE_PX, Images
from pipelines.attention.methods import METHODS, NEST, Batch, Method
from wsi_mil.attention2d.measures import localise
from wsi_mil.errors import DataError

GRID = (SIDE_PX // 4, SIDE_PX // 4)
BATCH, LR = 32, 5e-4


@dataclass(frozen=True)
class Measures:
    """Fractions of test images: rightly classified, and for those with a nest how the map covers it.

    pointing: the largest value of the map is in the nest. top_position: at least half of the largest position
    of a grid of 16 x 16 is in the nest. iou: the mean intersection over union of map and nest.
    """

    accuracy: float
    pointing: float
    top_position: float
    iou: float


def train(name: str, images: Images, seed: int, epochs: int, device: str) -> Method:
    """Return the method after its last epoch; every batch is turned and mirrored at random.

    Raises DataError if the loss becomes NaN or infinite.
    """
    make, fraction = METHODS[name]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = make(generator).to(device).train()
    has_mask = torch.zeros(len(images.labels), dtype=torch.bool)
    nests = torch.nonzero(images.labels == NEST)[:, 0]
    masked = torch.randperm(len(nests), generator=generator)[: round(fraction * len(images.labels))]
    has_mask[nests[masked]] = True
    optimiser = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=1e-4)
    steps = epochs * (len(images.labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(epochs):
        order = torch.randperm(len(images.labels), generator=generator)
        for rows in order.split(BATCH):
            if len(rows) < BATCH:
                continue  # the last images of an epoch, too few for a batch
            turns, mirrored = (int(torch.randint(n, (), generator=generator)) for n in (4, 2))
            pixels, masks = (torch.rot90(part[rows], turns, (2, 3)) for part in (images.pixels, images.masks))
            pixels, masks = (part.flip(3) if mirrored else part for part in (pixels, masks))
            batch = Batch(
                pixels.to(device),
                images.labels[rows].to(device),
                masks.to(device),
                has_mask[rows].to(device),
                epoch / epochs,
            )
            loss = model.loss(batch)
            if not torch.isfinite(loss):
                raise DataError(
                    f"{name}, seed {seed}: the loss is {float(loss.detach())} in epoch {epoch + 1}"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def measure(model: Method, images: Images, device: str) -> Measures:
    """Return accuracy on all test images and localisation on those with a nest."""
    with torch.no_grad():
        logits = torch.cat([model.logits(part.to(device)).cpu() for part in images.pixels.split(BATCH)])
        nests = images.labels == NEST
        maps = torch.cat([model.maps(part.to(device)).cpu() for part in images.pixels[nests].split(BATCH)])
    found = localise(maps, images.masks[nests, 0] > 0.5, GRID)
    return Measures(
        accuracy=float((logits.argmax(1) == images.labels).float().mean()),
        pointing=float(found.pointing.float().mean()),
        top_position=float(found.top_position.float().mean()),
        iou=float(found.iou.mean()),
    )
