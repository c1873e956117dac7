"""A kind of poison is one file: found in its folder, loaded when used, its name checked by the
configuration.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import wsi_mil.robustness.poison.kinds as kinds
from tests.robustness.poison.test_slide import array_slide, tiles_of, whole
from wsi_mil.errors import ConfigError
from wsi_mil.robustness import PoisonSpec, poison_slide
from wsi_mil.robustness.poison.kinds import POISONS, load_poison

STRIPES = '''
import numpy as np
from wsi_mil.robustness.poison.kinds.base import Poison

class Stripes(Poison):
    """Vertical stripes of level-0 px, `period` wide, of brightness `level`."""
    whole_slide = True
    parameters = {"period": 8.0, "level": 10.0}

    def paint(self, plan, window, pixels):
        x0, _ = window.centres0_px(np.zeros(1, int), np.arange(window.width_px))
        striped = np.floor(x0 / self.parameter(plan.spec, "period")) % 2 == 1
        level = np.float32(self.parameter(plan.spec, "level"))
        return np.where(striped[:, None], level, pixels.astype(np.float32))

POISON = Stripes()
'''


@pytest.fixture
def striped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stripes.py").write_text(STRIPES)
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])


def test_the_kinds_of_this_version() -> None:
    assert list(POISONS) == ["blur", "cast", "chip", "jpeg", "noise", "pen", "stain"]


@pytest.mark.usefixtures("striped")
def test_a_file_in_the_folder_is_a_kind() -> None:
    assert "stripes" in POISONS
    spec = PoisonSpec(kind="stripes", params={"period": 16})
    assert (spec.share, spec.title) == (1.0, "stripes_c100_s100")
    slide = array_slide()
    painted = whole(poison_slide(slide, tiles_of(slide), spec))
    changed = (painted != whole(slide)).any((0, 2))
    columns = np.arange(len(changed))
    np.testing.assert_array_equal(changed, columns // 16 % 2 == 1)
    assert (painted[:, changed] == 10).all()


@pytest.mark.usefixtures("striped")
def test_a_parameter_must_belong_to_the_kind() -> None:
    with pytest.raises(
        ValidationError, match=r"kind 'stripes' has no parameter 'width'\. Known: period, level"
    ):
        PoisonSpec(kind="stripes", params={"width": 3})
    with pytest.raises(ValidationError, match=r"kind 'noise' has no parameter 'period'\. Known: none"):
        PoisonSpec(params={"period": 3})


@pytest.mark.usefixtures("striped")
def test_the_command_line_offers_it() -> None:
    code = (
        "import sys, wsi_mil.robustness.poison.kinds as kinds; kinds.__path__.append(sys.argv[1])\n"
        "from wsi_mil.cli.main import main\nmain(['poison', '--help'])"
    )
    folder = list(kinds.__path__)[-1]
    printed = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=False
    )
    assert "|stripes]" in printed.stdout.replace("\n", "").replace(" ", ""), printed.stdout + printed.stderr


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    expected = "No kind of poison named 'glitter'. Known: blur, cast, chip, jpeg, noise, pen, stain."
    with pytest.raises(ValidationError, match=expected):
        PoisonSpec(kind="glitter")


def test_a_kind_from_elsewhere_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_stripes.py").write_text(STRIPES + "\nwrong = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSI_MIL_TRUST", "my_stripes")
    spec = PoisonSpec(kind="my_stripes:Stripes")
    assert spec.title == "Stripes_c100_s100"
    assert load_poison(spec.kind).parameters["period"] == 8.0
    with pytest.raises(ConfigError, match="expected a subclass or an instance of Poison"):
        load_poison("my_stripes:wrong")


def test_settings_of_older_versions_keep_their_digest() -> None:
    """The digest is part of folder names; it was computed before kinds had parameters of their own."""
    assert PoisonSpec().digest() == "c33695756a524d2f"
    assert "params" not in PoisonSpec().model_dump(mode="json")


def test_listing_the_kinds_loads_none_of_them() -> None:
    code = (
        "import sys; from wsi_mil.robustness.poison.kinds import POISONS; list(POISONS)\n"
        "print([m for m in sys.modules if m.startswith(('numpy', 'cv2', 'torch', 'pydantic'))])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
