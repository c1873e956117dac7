"""The file of a slide that was tiled: whoever reads its tiles must read that file, and no other."""

from wsi_mil.contracts.slide import SlideSource
from wsi_mil.errors import DataError
from wsi_mil.features.store import SlideStore
from wsi_mil.slides import SlideReader, open_slide
from wsi_mil.slides.state import slide_state


def require_tiled(source: SlideSource, store: SlideStore) -> None:
    """Raise DataError if the slide's file is not the one that was tiled, SlideError if there is none."""
    _compare(slide_state(source.file, source.slide_id).digest, source, store)


def open_tiled(source: SlideSource, reader: str, store: SlideStore) -> SlideReader:
    """Return the open slide. Raises DataError if its file is not the one that was tiled."""
    slide = open_slide(source.file, slide_id=source.slide_id, reader=reader, mpp=source.mpp)
    try:
        _compare(slide.source_digest, source, store)
    except DataError:
        slide.close()
        raise
    return slide


def _compare(digest: str, source: SlideSource, store: SlideStore) -> None:
    tiled = store.source()
    if tiled not in (None, digest):
        raise DataError(
            f"slide {source.slide_id!r}: its file is not the one that was tiled (expected content {tiled}, "
            f"found {digest}): {source.file}. Run `wsi-mil tile` first"
        )
