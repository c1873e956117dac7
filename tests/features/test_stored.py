"""The description of stored features is written and read back, and refused where it is damaged."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.errors import StoreError
from wsi_mil.features import FeatureOrigin, PoisonRecord, SlideStore, StoredFeatures
from wsi_mil.features.stored import Origins
from wsi_mil.io.files import fingerprint
from wsi_mil.slides import ArrayReader
from wsi_mil.stains import ColourMap
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue

POISON = PoisonRecord({"shape": "dot"}, "abc", {"tiles": 6, "poisoned": 2})


@pytest.fixture
def store(tmp_path: Path) -> SlideStore:
    """A store of 3 x 2 tiles without features."""
    reader = ArrayReader(np.full((64, 96, 3), 90, np.uint8), mpp=1.0, slide_id="s")
    mask = find_tissue(reader, TissueSpec(method="whole"))
    found = SlideStore(tmp_path / "s.zarr", "s")
    found.write_tiles(tile_slide(reader.info, mask, TileSpec(mpp=1.0, size_px=32)), reader.info, "x")
    return found


def write(store: SlideStore, origin: FeatureOrigin) -> None:
    readable = np.array([True, True, False, True, True, True])
    with store.write_features("e", 4, origin) as writer:
        writer.append(np.ones((6, 4), np.float16), readable)


def attributes_file(store: SlideStore) -> Path:
    return store.path / "features" / "e" / "zarr.json"


def test_what_is_written_is_read_back(store: SlideStore) -> None:
    colours = (ColourMap.of_density(np.diag([1.0, 2.0, 3.0])),)
    write(store, FeatureOrigin({"name": "e", "px": 32}, "123", {"name": "e"}, colours, POISON))
    found = store.stored_features("e")
    assert isinstance(found, StoredFeatures)
    assert (found.rows, found.readable_rows, found.unreadable_rows, found.dim, found.mpp) == (6, 5, 1, 4, 1.0)
    assert found.tiles_digest == store.tiles_digest()
    assert found.digest == store.read_features("e").digest
    assert found.origin.encoder == {"name": "e", "px": 32}
    assert (found.encoder_digest, found.origin.spec) == ("123", {"name": "e"})
    assert found.origin.poison == POISON
    assert found.origin.colours[0].as_lists() == colours[0].as_lists()
    again = pickle.loads(pickle.dumps(found))
    assert again.origin.attributes() == found.origin.attributes()


def test_attributes_lie_in_the_order_of_earlier_versions(store: SlideStore) -> None:
    """Stores of earlier versions must stay equal but for the digest, which is the last one."""
    write(store, FeatureOrigin({"name": "e"}, "123", poison=POISON))
    written = json.loads(attributes_file(store).read_text())["attributes"]
    expected = (
        "kind format_version units tiles_digest mpp rows readable_rows dim digest producer encoder "
        "encoder_digest "
        "spec poison complete content_digest"
    )
    assert " ".join(written) == expected
    assert "colours" not in written
    assert list(written["poison"]) == ["spec", "made_from", "counts"]


def test_absent_features_are_none(store: SlideStore) -> None:
    assert store.stored_features("e") is None


@pytest.mark.parametrize(
    ("field", "value"), [("digest", None), ("rows", "many"), ("readable_rows", 7), ("encoder", {})]
)
def test_a_damaged_description_is_refused(store: SlideStore, field: str, value: object) -> None:
    write(store, FeatureOrigin({"name": "e"}, "123"))
    path = attributes_file(store)
    values = json.loads(path.read_text())
    if value is None:
        del values["attributes"][field]
    else:
        values["attributes"][field] = value
    path.write_text(json.dumps(values))
    with pytest.raises(StoreError, match=r"zarr\.json is damaged: expected content of digest"):
        store.stored_features("e")
    del values["attributes"]["content_digest"]  # as an earlier version would have written it
    path.write_text(json.dumps(values))
    with pytest.raises(StoreError, match="features 'e' of slide 's' have a damaged description"):
        store.stored_features("e")


TILED, FILE, OTHER = "tiles", "digest of the file", "digest of another file"


@pytest.mark.parametrize(
    ("features", "source", "before", "kept"),
    [
        ({"source": FILE}, FILE, FILE, True),
        ({"source": FILE}, FILE, None, True),  # the description of the tiles is damaged
        ({"source": OTHER}, FILE, FILE, False),
        ({"source": FILE}, None, None, True),  # poison and imports do not state the file
        ({}, FILE, FILE, True),  # an older version did not store it with the features
        ({}, FILE, OTHER, False),
        ({}, FILE, None, True),
        ({"tiles_digest": "others", "source": FILE}, FILE, FILE, False),
    ],
)
def test_features_are_kept_if_tiles_and_file_are_the_same(
    features: dict[str, str], source: str | None, before: str | None, kept: bool
) -> None:
    assert Origins(TILED, source, before, "").are_of({"tiles_digest": TILED, **features}) == kept


def test_older_versions_knew_a_slide_of_several_files_by_one(tmp_path: Path) -> None:
    index = tmp_path / "s.mrxs"
    index.write_text("it names the slide")
    assert Origins(TILED, FILE, fingerprint(index), str(index)).are_of({"tiles_digest": TILED})
    assert not Origins(TILED, FILE, OTHER, str(index)).are_of({"tiles_digest": TILED})
