"""No command replaces files that it did not write."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from wsi_mil.config import load_config
from wsi_mil.config.loading import parse_config
from wsi_mil.config.provenance import REPLACED, write_provenance
from wsi_mil.errors import DataError, StoreError
from wsi_mil.execution import ExecutionSpec
from wsi_mil.experiments.method_audit import run_method_audit
from wsi_mil.experiments.model_audit import run_audit
from wsi_mil.interop.exports import export_features
from wsi_mil.interop.layouts import export_layout_names, load_export_layout
from wsi_mil.io.files import refuse_to_replace
from wsi_mil.stages.predict import predict_slides
from wsi_mil.synthetic import SynthSpec, write_cohort
from wsi_mil.testing.layouts import example_slide

NOT_OURS = "not written by this command, which would replace files there: choose another folder"


def of_user(folder: Path, name: str) -> Path:
    """A file that a user wrote."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("of the user")
    return path


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    refuse_to_replace(tmp_path / "absent")
    of_user(tmp_path, ".hidden")
    refuse_to_replace(tmp_path)
    of_user(tmp_path, "notes.txt")
    refuse_to_replace(tmp_path, ("labels.csv",))
    for names in ((), ("notes.txt",)):
        with pytest.raises(StoreError, match=rf"holds notes\.txt, {NOT_OURS}"):
            refuse_to_replace(tmp_path, names)


def test_a_zarr_store_of_another_program_stays(tmp_path: Path) -> None:
    slide, layout = example_slide(), load_export_layout("zarr")
    store = tmp_path / f"{slide.info.slide_id}.zarr"
    store.parent.mkdir(parents=True, exist_ok=True)
    zarr.open_group(store, mode="w").create_array("mine", data=np.arange(3))
    with pytest.raises(StoreError, match="was not written by an export"):
        layout.write(slide, tmp_path)
    assert list(zarr.open_group(store, mode="r").array_keys()) == ["mine"]
    shutil.rmtree(store)
    for _ in range(2):  # the second one replaces the first
        assert layout.write(slide, tmp_path) == [store]


@pytest.mark.slow
@pytest.mark.parametrize("layout", export_layout_names())
def test_an_export_replaces_its_own_files_alone(layout: str, small_run: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(small_run, run)
    config = load_config(run, [f"run={run}"])
    mine = of_user(out, "labels.csv")
    with pytest.raises(StoreError, match=NOT_OURS):
        export_features(config, out, layout)
    assert mine.read_text() == "of the user"
    with pytest.raises(StoreError, match=NOT_OURS):
        export_features(config, run, layout)
    mine.unlink()
    for _ in range(2):
        assert {row.status for row in export_features(config, out, layout)} == {"done"}


@pytest.mark.parametrize("name", REPLACED)
def test_a_run_does_not_begin_among_other_files(name: str, tmp_path: Path) -> None:
    config, mine = parse_config({"run": str(tmp_path)}), of_user(tmp_path, name)
    with pytest.raises(StoreError, match=NOT_OURS):
        write_provenance(tmp_path, config)
    assert mine.read_text() == "of the user"
    mine.unlink()
    of_user(tmp_path, "notes.txt")
    write_provenance(tmp_path, config)
    of_user(tmp_path, name)
    write_provenance(tmp_path, config)


@pytest.mark.slow
def test_predictions_do_not_replace_a_run_with_models(small_run: Path, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(small_run, tmp_path / "run")
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(DataError, match="is a run with models of its own"):
        predict_slides(small_run / "models" / "focus_mil", cohort / "slides", tmp_path / "run")
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


@pytest.mark.parametrize("name", ["audit.json", "audit.html"])
def test_an_audit_of_methods_replaces_its_own_files_alone(name: str, tmp_path: Path) -> None:
    mine = of_user(tmp_path, name)
    spec = ExecutionSpec(workers=1)
    with pytest.raises(StoreError, match=NOT_OURS):
        run_method_audit(["mi_net"], tmp_path, 1, spec, tests=[])
    assert mine.read_text() == "of the user"
    mine.unlink()
    for _ in range(2):
        run_method_audit(["mi_net"], tmp_path, 1, spec, tests=[])


@pytest.mark.parametrize("name", ["audit.json", "curves.png"])
def test_an_audit_of_a_model_does_not_replace_other_files(name: str, tmp_path: Path) -> None:
    of_user(tmp_path / "out", name)
    config = parse_config({"run": str(tmp_path / "run")})
    with pytest.raises(StoreError, match=NOT_OURS):
        run_audit(config, "focus_mil", 0, tmp_path / "out")


def test_a_synthetic_cohort_does_not_replace_labels(tmp_path: Path) -> None:
    mine = of_user(tmp_path, "labels.csv")
    with pytest.raises(StoreError, match=NOT_OURS):
        write_cohort(tmp_path, SynthSpec(pairs=1))
    assert mine.read_text() == "of the user"
