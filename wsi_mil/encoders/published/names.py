"""All published encoders by name, and their table."""

from wsi_mil.encoders.published.dinov2 import DINOV2
from wsi_mil.encoders.published.language import LANGUAGE
from wsi_mil.encoders.published.plain import PLAIN
from wsi_mil.encoders.published.record import Published
from wsi_mil.io.tables import text_table

PUBLISHED: dict[str, Published] = {**PLAIN, **DINOV2, **LANGUAGE}


def catalog_table(names: list[str]) -> str:
    """Return a table with one line per published encoder: features, input, scales, pooling, licence, hub."""
    head = ("encoder", "features", "input px", "µm/px", "pooling", "precision", "licence", "hub")
    rows = [head]
    for name in names:
        record = PUBLISHED[name]
        scales = ", ".join(f"{mpp:g}" for mpp in record.mpps) or "any"
        sizes = (str(record.dim), str(record.input_px), scales)
        rows.append((name, *sizes, record.pooling, record.precision, record.licence, record.hub or "-"))
    return text_table(rows)
