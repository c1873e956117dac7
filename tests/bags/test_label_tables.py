"""Label tables as people write them: columns, encodings, separators, Excel, tables of STAMP and CLAM."""

from pathlib import Path

import pytest

from wsi_mil.bags.labels import LabelSource, LabelTable, read_label_source, read_labels
from wsi_mil.errors import ConfigError, DataError
from wsi_mil.slides import find_slides
from wsi_mil.tasks import TaskSpec

ROWS = [("s1", "tumor", "p1"), ("s2", "normal", "p1"), ("s3", "tumor", "p2")]


def text_of(header: tuple[str, ...], separator: str = ",") -> str:
    return "\n".join(separator.join(row) for row in (header, *ROWS)) + "\n"


def patients(table: LabelTable) -> dict[str, str]:
    return {name: row.patient for name, row in table.rows.items()}


EXPECTED = {"s1": "p1", "s2": "p1", "s3": "p2"}


@pytest.mark.parametrize(
    "name",
    [
        "patient",
        "patient_id",
        "Patient ID",
        "PATIENT",
        "case_id",
        "case_submitter_id",
        "PatientID",
        "bcr_patient_barcode",
        "Subject-ID",
        "participant",
        "Case",
    ],
)
def test_every_usual_name_of_a_patient_groups_slides(tmp_path: Path, name: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text_of(("slide", "label", name)))
    assert patients(read_labels(path)) == EXPECTED


@pytest.mark.parametrize("name", ["slide", "slide_id", "filename", "FILENAME", "Image", "wsi", "Slide ID"])
def test_every_usual_name_of_a_slide(tmp_path: Path, name: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text_of((name, "label", "patient")))
    assert patients(read_labels(path)) == EXPECTED


@pytest.mark.parametrize("name", ["centre", "center", "site", "Institution", "hospital_id"])
def test_every_usual_name_of_a_centre(tmp_path: Path, name: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text_of(("slide", "label", name)))
    assert [row.centre for row in read_labels(path).rows.values()] == ["p1", "p1", "p2"]


def test_two_candidates_are_refused_by_name_and_the_user_decides(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("slide,label,case_id,patient\na,tumor,c1,p1\nb,normal,c2,p1\n")
    with pytest.raises(DataError, match=r"'case_id' and 'patient'.*slides\.columns\.patient=case_id"):
        read_labels(path)
    chosen = read_label_source(LabelSource(path, columns={"patient": "patient"}))
    assert patients(chosen) == {"a": "p1", "b": "p1"}
    with pytest.raises(ConfigError, match=r"no column 'patent'.*Nearest: 'patient'"):
        read_label_source(LabelSource(path, columns={"patient": "patent"}))


def test_a_column_that_looks_like_the_patient_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("slide,label,patient_hash\na,tumor,x\nb,normal,x\n")
    with caplog.at_level("WARNING", logger="wsi_mil"):
        table = read_labels(path)
    assert "each slide is a patient of its own" in table.line
    path.write_text("slide,label,patient,patient_age\na,tumor,x,5\nb,normal,x,6\n")
    assert "each slide" not in read_labels(path).line


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encodings_and_separators(tmp_path: Path, encoding: str, separator: str) -> None:
    path = tmp_path / "labels.csv"
    rows = [("slide", "label", "patient"), ("s1", "Läsion", "Müller"), ("s2", "normal", "Müller")]
    path.write_bytes("\r\n".join(separator.join(row) for row in rows).encode(encoding))
    table = read_labels(path)
    assert table.class_names == ("normal", "Läsion")
    assert set(patients(table).values()) == {"Müller"}


def test_decimal_commas_of_tables_with_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("slide;label;mpp\na;tumor;0,25\nb;normal;0.5\n")
    assert [row.mpp for row in read_labels(path).rows.values()] == [0.25, 0.5]
    path.write_text("slide;value\na;1,5\nb;NA\n")
    found = read_labels(path, spec=TaskSpec(kind="regression")).rows
    assert [row.target for row in found.values()] == [1.5, None]


def test_excel(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [("Slide ID", "label", "Patient ID"), ("s1", 1, 17), ("s2", 0, 17), (None, None, None)]:
        book.active.append(row)
    path = tmp_path / "labels.xlsx"
    book.save(path)
    table = read_labels(path)
    assert table.class_names == ("0", "1")
    assert patients(table) == {"s1": "17", "s2": "17"}
    book.create_sheet("more").append(["x"])
    book.save(path)
    with pytest.raises(DataError, match="2 sheets with rows"):
        read_labels(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "old Excel workbook"),
        (b"PK\x03\x04broken", r"no readable \.xlsx"),
        (b"PAR1xxxx", "Parquet"),
        (b"\x1f\x8bxxxx", "gzip"),
        (b"slide,label\n\x00\x01\x02", "zero bytes"),
        (b"\xff\xfe\x00", "UTF-16"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"labels\.csv.*{message}") as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)


def test_the_dataset_csv_of_clam(tmp_path: Path) -> None:
    path = tmp_path / "dataset.csv"
    path.write_text("case_id,slide_id,label\np1,s1,tumor_tissue\np1,s2,normal_tissue\np2,s3,tumor_tissue\n")
    table = read_labels(path)
    assert patients(table) == EXPECTED
    assert table.class_names == ("normal_tissue", "tumor_tissue")


def test_the_two_tables_of_stamp(tmp_path: Path) -> None:
    clini, slides = tmp_path / "clini.csv", tmp_path / "slide.csv"
    clini.write_text("PATIENT,isMSIH,AGE\np1,MSIH,60\np2,nonMSIH,70\np3,,50\n")
    slides.write_text("FILENAME,PATIENT\nx/s1.svs,p1\nx/s2.svs,p1\ns3.svs,p2\ns4.h5,p9\n")
    spec = TaskSpec(columns={"label": "isMSIH"})
    source = LabelSource(clini, positive=("MSIH",), slide_table=slides)
    table = read_label_source(source, spec)
    assert patients(table) == {"x/s1": "p1", "x/s2": "p1", "s3": "p2", "s4": "p9"}
    assert [row.label for row in table.rows.values()] == [1, 1, 0, None]
    with pytest.raises(DataError, match=r"slides\.slide_table=PATH"):
        read_label_source(LabelSource(clini, positive=("MSIH",)), spec)


def test_none_is_no_label_and_a_warning_says_so_where_one_class_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("slide,label\ns1,none\ns2,tumor\ns3,none\n")
    assert read_labels(path).class_names == ("tumor",)
    assert "2 slides have the label none, which is read as: no label" in caplog.text
    assert "slides.class_names=[none,tumor]" in caplog.text
    told = read_label_source(LabelSource(path, ("none", "tumor")))
    assert told.scheme is not None
    assert (told.scheme.positive, told.scheme.negative) == (("tumor",), ("none",))


def test_ids_of_slides_are_in_one_unicode_form(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("slide,label\nLunge\u0301.svs,tumor\nx,normal\n", encoding="utf-8")
    assert set(read_labels(path).rows) == {"Lung\u00e9", "x"}


def test_a_file_name_in_a_table_is_the_id_that_the_folder_gives(tmp_path: Path) -> None:
    names = ["a.svs", "b.ome.tiff", "c.tif", "d.ndpi", "e.x.tiff"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    path = tmp_path / "labels.csv"
    path.write_text(
        "filename,label\n" + "".join(f"{n},{('tumor', 'normal')[i % 2]}\n" for i, n in enumerate(names))
    )
    assert set(read_labels(path).rows) == {file.slide_id for file in find_slides(tmp_path)}


@pytest.mark.parametrize(
    ("clini", "slides", "message"),
    [
        ("PATIENT,label\np1,tumor\n", None, "no table of slides at"),
        ("PATIENT,label\np1,tumor\n", "FILENAME\ns1.svs\n", "needs a column of patients: name it with"),
        (
            "id,label\np1,tumor\n",
            "FILENAME,PATIENT\ns1.svs,p1\n",
            "needs a column of patients, found id, label",
        ),
        ("", "FILENAME,PATIENT\ns1.svs,p1\n", "is empty: expected one row for each patient"),
        (
            "PATIENT,label\np1,tumor\np1,normal\n",
            "FILENAME,PATIENT\ns1.svs,p1\n",
            "line 3: patient 'p1' has two rows, expected one",
        ),
    ],
)
def test_two_tables_that_do_not_fit_are_refused(
    tmp_path: Path, clini: str, slides: str | None, message: str
) -> None:
    (tmp_path / "clini.csv").write_text(clini)
    if slides is not None:
        (tmp_path / "slide.csv").write_text(slides)
    source = LabelSource(tmp_path / "clini.csv", slide_table=tmp_path / "slide.csv")
    with pytest.raises(DataError, match=message):
        read_label_source(source)


def test_patients_without_slides_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "clini.csv").write_text("PATIENT,label\np1,tumor\np2,normal\np3,normal\n")
    (tmp_path / "slide.csv").write_text("FILENAME,PATIENT\ns1.svs,p1\ns2.svs,p2\n")
    table = read_label_source(LabelSource(tmp_path / "clini.csv", slide_table=tmp_path / "slide.csv"))
    assert set(table.rows) == {"s1", "s2"}
    assert "1 of 3 patients have no slide" in caplog.text
    assert "the first is p3" in caplog.text
