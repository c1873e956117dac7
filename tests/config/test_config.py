"""Configuration: mistakes in one line, overrides, what is saved is loaded again."""

from pathlib import Path

import pytest

from wsi_mil.config import load_config, packaged_config, save_config
from wsi_mil.config.loading import checked, parse_config
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.errors import ConfigError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: r\ntilse: {}\n", "unknown key 'tilse'. Nearest: 'tiles'"),
        ("run: r\ntiles: {mpp: 0.5, szie_px: 3}\n", "unknown key 'tiles.szie_px'. Nearest: 'size_px'"),
        ("run: r\nsynthetic: {pair: 3}\n", "unknown key 'synthetic.pair'. Nearest: 'pairs'"),
        ("run: r\ntiles: {mpp: -1}\n", "tiles.mpp: expected a number greater than 0.0, found -1"),
        ("run: r\ntissue: {method: otsuu}\n", "tissue.method: expected 'auto', 'otsu', "),
        ("run: r\ntissue: {method: otsuu}\n", "found 'otsuu'"),
        ("run: r\ntiles: {size_px: big}\n", "tiles.size_px: expected a whole number, found 'big'"),
        ("run: r\ntiles: {size_px: 3.5}\n", "tiles.size_px: expected a whole number, found 3.5"),
        ("run: r\ntiles: {mpp: half}\n", "tiles.mpp: expected a number, found 'half'"),
        ("run: r\ntiles: {mpp: .nan}\n", "tiles.mpp: expected a finite number, found nan"),
        ("run: r\nsplit: {test_share: 1}\n", "split.test_share: expected a number less than 1.0, found 1"),
        ("run: r\nsplit: {folds: 1}\n", "split.folds: expected a number of at least 2, found 1"),
        ("run: r\nslides: {labels: 3}\n", "slides.labels: "),
        ("run: r\nslides: {folder: [a]}\n", "slides.folder: expected a path or a URL, found ['a']"),
        ("run: r\nslides: {reader: 3}\n", "slides.reader: expected text, found 3"),
        ("run: r\nencoder: {compile: maybe}\n", "encoder.compile: expected true or false, found 'maybe'"),
        ("run: r\ntiles: 3\n", "tiles: expected a block of keys, found 3"),
        ("run: r\ntrain: {lr: {a: 1}}\n", "train.lr: expected a number, found a block of keys"),
        ("seed: 1\n", "key 'run' is missing: expected run: VALUE in the file, or run=VALUE"),
        (
            "run: r\nmodels: {focus_mil: {epoch: 3}}\n",
            "unknown key 'models.focus_mil.epoch'. Nearest: 'epochs'",
        ),
        ("run: r\nmodels: {focus_mil: {lr: -3}}\n", "models.focus_mil.lr: expected a number greater than 0"),
        ("run: r\nmodels: {}\n", "models: expected at least 1 entries"),
        ("- a\n", "must hold keys and values, found a list"),
        ("run: [\n", "not readable YAML"),
        ("run: r\ntiles:\n  mpp: 1\n  mpp: 2\n", "key 'mpp' is given twice in one block, in lines 3 and 4"),
        ("run: r\nseed: 1\nrun: s\n", "key 'run' is given twice in one block, in lines 1 and 3: keep one"),
    ],
)
def test_a_mistake_is_one_line_with_key_expected_and_found(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(path)) or "models." in message
    assert "\n" not in str(raised.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tiles: expected .*; split.kind: expected .*; unknown key 'sed'"):
        load_config(write(tmp_path / "c.yaml", "run: r\ntiles: 3\nsplit: {kind: k}\nsed: 1\n"))


def test_one_key_in_two_blocks_and_a_merged_block_are_no_duplicates(tmp_path: Path) -> None:
    text = "run: r\nmodels:\n  mi_net: &own {lr: 0.1}\n  focus_mil: {<<: *own, lr: 0.2}\ntiles: {mpp: 1}\n"
    config = load_config(write(tmp_path / "c.yaml", text))
    assert (config.train_spec("mi_net").lr, config.train_spec("focus_mil").lr) == (0.1, 0.2)


def test_an_override_with_a_duplicate_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"override 'tiles=\{mpp: 1, mpp: 2\}'.*given twice"):
        load_config(write(tmp_path / "c.yaml", "run: r\n"), ("tiles={mpp: 1, mpp: 2}",))


def test_values_of_an_option_are_checked_as_those_of_a_file() -> None:
    with pytest.raises(ConfigError) as raised:
        checked(TileSpec, {"mpp": -1, "size": 3})
    assert str(raised.value) == (
        "mpp: expected a number greater than 0.0, found -1; "
        "unknown key 'size'. Nearest: 'size_px', 'stride_px'"
    )


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "run: r\ntiles: {mpp: 0.5}\n")
    config = load_config(
        path, ("tiles.mpp=1.0", "models.mi_net.epochs=3", "encoder.weights=a=b.pth", "slides.folder=x")
    )
    assert config.tiles.mpp == 1.0
    assert config.encoder.weights == "a=b.pth"
    assert config.train_spec("mi_net").epochs == 3
    for wrong in ("tiles.mpp", "=3", "tiles.mpp.x=1"):
        with pytest.raises(ConfigError, match="override"):
            load_config(path, (wrong,))
    with pytest.raises(ConfigError, match="Nearest: 'mpp'"):
        load_config(path, ("tiles.mp=1",))


def test_one_seed_for_all_that_set_none(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "c.yaml", "run: r\nseed: 9\nsplit: {seed: 4}\n"))
    assert (config.split.seed, config.train.seed, config.evaluation.seed) == (4, 9, 9)


def test_models_take_what_is_shared_and_their_own(tmp_path: Path) -> None:
    text = (
        "run: r\ntrain: {epochs: 7, lr: 0.5}\n"
        "models:\n  a: {aggregator: focus_mil, lr: 0.1, params: {latent: 4}}\n  mi_net: {}\n"
    )
    config = load_config(write(tmp_path / "c.yaml", text))
    one, two = config.train_spec("a"), config.train_spec("mi_net")
    assert (one.aggregator, one.epochs, one.lr, one.params) == ("focus_mil", 7, 0.1, {"latent": 4})
    assert (two.aggregator, two.epochs, two.lr) == ("mi_net", 7, 0.5)


def test_what_is_saved_loads_to_the_same(tmp_path: Path) -> None:
    config = load_config(packaged_config("demo"), (f"run={tmp_path}",))
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path) == config
    assert load_config(tmp_path).digest() == config.digest()


def test_absent_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration at"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="no configuration named 'nothing' ships"):
        packaged_config("nothing")


def test_a_new_seed_reaches_the_blocks_of_a_saved_run(tmp_path: Path) -> None:
    """A run folder's configuration states every seed; `seed=1` means all of them but those that were set
    apart."""
    save_config(
        load_config(write(tmp_path / "a.yaml", "run: r\ntrain: {seed: 5}\n")), tmp_path / "config.yaml"
    )
    config = load_config(tmp_path, ("seed=1",))
    assert (config.seed, config.split.seed, config.evaluation.seed, config.train.seed) == (1, 1, 1, 5)
    config = load_config(tmp_path, ("seed=1", "split.seed=0"))
    assert (config.split.seed, config.evaluation.seed) == (0, 1)


def test_a_new_tile_size_brings_its_own_stride(tmp_path: Path) -> None:
    """A run folder's configuration of tiles side by side stays one of tiles side by side."""
    save_config(
        load_config(write(tmp_path / "a.yaml", "run: r\ntiles: {size_px: 128}\n")), tmp_path / "config.yaml"
    )
    assert load_config(tmp_path, ("tiles.size_px=64",)).tiles.step_px == 64
    save_config(
        load_config(write(tmp_path / "a.yaml", "run: r\ntiles: {size_px: 128, stride_px: 32}\n")),
        tmp_path / "config.yaml",
    )
    assert load_config(tmp_path, ("tiles.size_px=64",)).tiles.step_px == 32


def test_a_run_folder_is_its_own_run_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called from another folder, a relative `run` would have started a second run there."""
    monkeypatch.chdir(tmp_path)
    save_config(
        load_config(write(tmp_path / "a.yaml", "run: runs/a\n")), tmp_path / "runs" / "a" / "config.yaml"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_config("../runs/a").run == Path("../runs/a")
    assert load_config(tmp_path / "runs" / "a", ("run=b",)).run == Path("b")


def test_a_single_view_of_the_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder.*give encoder\.views=N and leave `view` out"):
        parse_config({"run": "runs/x", "encoder": {"view": 3}})
