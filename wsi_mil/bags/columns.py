"""The columns of a label table: which column holds what, by one list of names."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.errors import ConfigError, DataError, nearest
from wsi_mil.io.user_tables import Line, UserTable
from wsi_mil.logs import logger
from wsi_mil.slides.ids import slide_id_text


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ALIASES: dict[str, frozenset[str]] = {
    "slide": _words(
        "slide slideid slidename slidefile slidefilename slidepath slidesubmitterid slideno slidenumber "
        "slidebarcode filename file filepath image imageid imagename imagefile imagefilename imagepath wsi "
        "wsiid wsiname wsifile wsifilename wsipath scanid scanname"
    ),
    "patient": _words(
        "patient patients patientid patientname patientcode patientno patientnr patientnumber patientbarcode "
        "patientsubmitterid bcrpatientbarcode patid ptid case caseid casename casecode caseno casenr "
        "casenumber casesubmitterid casebarcode subject subjectid participant participantid donor donorid "
        "submitterdonorid individual individualid person personid mrn"
    ),
    "centre": _words(
        "centre center centreid centerid centrename centername site siteid sitename institution "
        "institutionid institutionname institute instituteid hospital hospitalid hospitalname laboratory "
        "lab labid tissuesourcesite tissuesourcesitecode tss clinic"
    ),
    "split": _words("split splits set subset partition datasplit trainvaltest traintest"),
    "mpp": _words(
        "mpp micronsperpixel micronperpixel micrometersperpixel micrometresperpixel umperpixel umperpx umpx "
        "μmperpixel μmpx μmperpx pixelsizeum pixelsizemicrons"
    ),
    "mpp_x": _words("mppx pixelsizexum"),
    "mpp_y": _words("mppy pixelsizeyum"),
}
"""What a column may be called, by what it holds: lower case, letters and digits only."""
LOOKS_LIKE = {
    "patient": re.compile("patient|case|subject|participant|donor|person"),
    "centre": re.compile("cent(er|re)|site|institut|hospital|laborator|clinic"),
    "split": re.compile("split|fold|partition|train"),
    "mpp": re.compile("mpp|micron|pixelsize|resolution|perpixel"),
}
"""Words in the name of a column that may hold this, although its name is not in `ALIASES`."""


def plain_name(name: str) -> str:
    """Return a column name as it is compared: lower case, letters and digits only.

    >>> plain_name("Patient ID"), plain_name("case_submitter_id")
    ('patientid', 'casesubmitterid')
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(char for char in folded if char.isalnum())


@dataclass(frozen=True)
class ReadTable:
    """The rows below a header. columns: role -> the name in the header. lines: number of the line, and cells
    by role."""

    path: Path
    columns: dict[str, str]
    lines: list[tuple[int, dict[str, str]]]
    decimal_comma: bool = False


def assign_columns(
    path: Path, table: UserTable, wanted: Mapping[str, str], given: Mapping[str, str], described: str
) -> ReadTable:
    """Return the rows of a table with the cells of each role.

    wanted: further roles, those of the task, with the name of their column. given: role -> column, where the
    user says so (`slides.columns`). described: what needs the columns, for the message.

    Raises ConfigError for a column in `given` that the table does not have, and DataError if two columns can
    have the same role and differ, or if a column of `wanted` is missing.
    """
    lines = [line for line in table.lines if not line.is_blank]
    header = lines[0].cells if lines else []
    rows = lines[1:]
    if unknown := sorted(set(given) - set(ALIASES)):
        raise ConfigError(f"slides.columns.{unknown[0]}: expected one of {', '.join(ALIASES)}")
    taken: dict[str, int] = {}
    for role in ALIASES:
        found = _column(path, header, rows, role, given, set(wanted.values()))
        if found is not None:
            taken[role] = found
    missing = []
    for role, name in wanted.items():
        places = [i for i, column in enumerate(header) if plain_name(column) == plain_name(name)]
        if places:
            taken[role] = places[0]
        else:
            missing.append(role)
    _require(path, header, taken, missing, wanted, described)
    _warn_of_similar(path, header, taken, given)
    cells = [(line.number, {role: _cell(line, place) for role, place in taken.items()}) for line in rows]
    return ReadTable(path, {role: header[place] for role, place in taken.items()}, cells, table.decimal_comma)


def _column(
    path: Path,
    header: Sequence[str],
    rows: Sequence[Line],
    role: str,
    given: Mapping[str, str],
    of_task: set[str],
) -> int | None:
    """Return the number of the column that has a role; None if there is none."""
    if role in given:
        places = [i for i, name in enumerate(header) if plain_name(name) == plain_name(given[role])]
        if not places:
            raise ConfigError(
                f"slides.columns.{role}: {path} has no column {given[role]!r}, it has {', '.join(header)}. "
                f"Nearest: {nearest(given[role], list(header))}"
            )
        return places[0]
    theirs = set(map(plain_name, of_task))
    places = [
        i
        for i, name in enumerate(header)
        if plain_name(name) in ALIASES[role] and plain_name(name) not in theirs
    ]
    filled = [i for i in places if any(_cell(row, i) for row in rows)] or places[:1]
    if len(filled) > 1 and any(len({_compared(role, _cell(row, i)) for i in filled}) > 1 for row in rows):
        names = " and ".join(repr(header[i]) for i in filled)
        raise DataError(
            f"{path}: the columns {names} can each be the {role} and differ: say which with "
            f"slides.columns.{role}={header[filled[0]]}"
        )
    return filled[0] if filled else None


def _compared(role: str, cell: str) -> str:
    return slide_id_of(cell) if role == "slide" else cell


def _cell(line: Line, place: int) -> str:
    return line.cells[place] if place < len(line.cells) else ""


def _require(
    path: Path,
    header: Sequence[str],
    taken: Mapping[str, int],
    missing: Sequence[str],
    wanted: Mapping[str, str],
    described: str,
) -> None:
    if not missing and "slide" in taken:
        return
    found = ", ".join(header) or "an empty file"
    hint = f": name yours with task.columns.{missing[0]}=COLUMN" if missing and header else ""
    if not missing:
        hint = ": name yours with slides.columns.slide=COLUMN"
        if "patient" in taken:
            hint += ", or give slides.slide_table=PATH to a table of the slides of each patient"
    raise DataError(
        f"{path}: {described} needs the columns {' and '.join(['slide', *wanted.values()])}, found "
        f"{found}{hint}"
    )


def _warn_of_similar(
    path: Path, header: Sequence[str], taken: Mapping[str, int], given: Mapping[str, str]
) -> None:
    """Warn of columns whose names look like a role that no column has."""
    for role, pattern in LOOKS_LIKE.items():
        if role in taken or (role == "mpp" and "mpp_x" in taken):
            continue
        similar = [
            name
            for i, name in enumerate(header)
            if i not in taken.values() and pattern.search(plain_name(name))
        ]
        if similar:
            several = "s" if len(similar) > 1 else ""
            logger().warning(
                "%s: no column is taken as the %s; column%s %s look%s like it: if it is, set "
                "slides.columns.%s=%s",
                path,
                role,
                several,
                ", ".join(similar),
                "" if several else "s",
                role,
                similar[0],
            )


ENDINGS = re.compile(
    r"\.(svs|tiff?|ndpi|vms|vmu|scn|mrxs|svslide|bif|czi|dcm|isyntax|qptiff|btf|jpe?g|png|h5|hdf5|pt|"
    r"npy|npz|zarr)$",
    re.IGNORECASE,
)


def slide_id_of(cell: str) -> str:
    """Return the slide id that a cell names: a path with `/`, without the ending of a slide or feature file,
    in Unicode NFC as ids of slides are.

    >>> slide_id_of("p01\\\\s1.svs"), slide_id_of("s1.h5"), slide_id_of("TCGA-05.4244")
    ('p01/s1', 's1', 'TCGA-05.4244')
    """
    return slide_id_text(ENDINGS.sub("", cell.replace("\\", "/")))
