"""A model fitted to a place: plots of labelled ground, the choice, the gain, the file."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
import torch

from geohr.encoding import IGNORE, PROBABILITY_MAX
from geohr.errors import InputError, UsageError
from geohr.geobox import Window
from geohr.models.model import Model
from geohr.scene import Scene
from geohr.tiling.normalize import Normalizer
from geohr.training.adapt import FOLDS, Clock, Trial, adapt, share_out
from geohr.training.fit import LabelledWindows, blend, corner, guidance, mirrored
from geohr.training.gain import core, judge
from geohr.training.ground import NO_PLOT, PIECE_SIDE, halves, read_ground, read_labelled
from geohr.training.options import AdaptOptions
from tests.command import Geohr
from tests.makers import ORIGIN, UTM
from tests.train.towns import GSD, Town, make_town

QUICK = AdaptOptions(steps=3, tile=64, batch=2, gsd="native")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    """A town whose western half is completely labelled."""
    town = make_town(tmp_path_factory.mktemp("town"), "town", height=160, width=240, houses=24)
    labels = pyogrio.read_dataframe(town.polygons)
    labels.to_file(town.polygons, layer="labels")
    west, north = ORIGIN
    half = shapely.box(west, north - 160 * GSD, west + 120 * GSD, north)
    geopandas.GeoDataFrame(geometry=[half], crs=UTM).to_file(town.polygons, layer="labelled")
    return town


def test_only_ground_that_was_marked_as_complete_or_drawn_is_known(town: Town) -> None:
    pieces, objects = read_labelled(Scene.open(town.image), str(town.polygons), None)
    assert objects == len(pyogrio.read_dataframe(town.polygons, layer="labels"))
    seen = np.full(town.classes.shape, IGNORE, np.uint8)
    seen[:, :120] = town.classes[:, :120]
    seen[town.classes == 1] = 1
    known = sum(int((each.classes != IGNORE).sum()) for each in pieces)
    assert known == (seen != IGNORE).sum()
    assert sum(int((each.classes == 1).sum()) for each in pieces) == (seen == 1).sum()
    for each in pieces:
        assert ((each.plots == NO_PLOT) == (each.classes == IGNORE)).all()
        assert each.bands.shape == (3, *each.valid.shape)


def test_slivers_at_the_edge_of_an_area_are_no_ground(town: Town) -> None:
    scene = Scene.open(town.image)
    west, north = ORIGIN
    area = shapely.box(west + 10, north - 40, west + 40, north - 10)
    # As outlines that were cut at the edge lie beyond it by rounding.
    outside = shapely.box(west + 40 + 1e-9, north - 20, west + 40 + 1e-8, north - 15)
    pieces = read_ground(scene, np.array([shapely.box(*area.bounds), outside]), np.array([area]))
    assert len(pieces) == 1


def test_folds_part_the_plots_and_share_the_objects(town: Town) -> None:
    pieces, _ = read_labelled(Scene.open(town.image), str(town.polygons), None)
    folds = share_out(pieces)
    plots = {int(plot) for each in pieces for plot in np.unique(each.plots)} - {NO_PLOT}
    assert len(folds) == FOLDS
    assert sorted(plot for fold in folds for plot in fold) == sorted(plots)
    left = pieces[0].without(folds[0])
    assert (left[np.isin(pieces[0].plots, folds[0])] == IGNORE).all()


@pytest.mark.parametrize("shape", [(1, 1), (5000, 300), (1024, 1025)])
def test_halves_cover_a_window_once(shape: tuple[int, int]) -> None:
    parts = halves(Window(3, 7, *shape), PIECE_SIDE)
    assert sum(each.height * each.width for each in parts) == shape[0] * shape[1]
    assert all(max(each.height, each.width) <= PIECE_SIDE for each in parts)
    assert min(each.row for each in parts) == 3
    assert min(each.col for each in parts) == 7


def counts(old: list[int], new: list[int], plots: int, noise: float = 0.0) -> np.ndarray:
    """Plots where objects have the level `new[1]` or `old[1]`, and the ground `...[0]`."""
    rng = np.random.default_rng(1)
    made = np.zeros((2, plots, 2, PROBABILITY_MAX + 1), np.int64)
    for share, levels in enumerate((old, new)):
        for plot in range(plots):
            wrong = int(1000 * noise * rng.random())
            made[share, plot, 0, levels[0]] += 3000
            made[share, plot, 1, levels[1]] += 1000 - wrong
            made[share, plot, 1, 0] += wrong
            made[share, plot, 0, levels[1]] += 1500 if share == 0 else 0
    return made


def test_weights_that_are_better_are_taken() -> None:
    gain = judge(counts([10, 200], [10, 170], 8), 0.65, seed=0)
    assert gain.taken
    assert gain.after == 1.0
    assert gain.low > 0
    assert gain.describe().endswith("points (+60 to +60)")


def uneven(better: int, worse: int, gained: int, lost: int) -> np.ndarray:
    """Plots where new weights find as many more pixels of objects, or fewer, than old ones."""
    made = counts([10, 200], [10, 200], better + worse, noise=0.3)
    made[0] = made[1]
    for plot in range(better + worse):
        change = gained if plot < better else -lost
        made[1, plot, 1, 200] += change
        made[1, plot, 1, 0] -= change
    return made


def test_weights_that_may_be_worse_are_taken_and_that_is_said() -> None:
    gain = judge(uneven(3, 5, 150, 120), 0.65, seed=0)
    assert gain.low < 0 < gain.high
    assert gain.taken
    assert gain.describe().endswith("it may be a loss: check the new map")
    # At this level any loss is enough.
    assert not judge(uneven(3, 5, 150, 120), 0.65, certainty=0.0).taken


def test_weights_that_are_worse_are_refused_and_the_model_is_as_it_was() -> None:
    gain = judge(uneven(0, 8, 0, 200), 0.65, seed=0)
    assert gain.low < gain.high < 0
    assert not gain.taken
    assert "refused" in gain.describe()
    start = Model.bundled()
    other = {
        name: each + 1 if each.is_floating_point() else each
        for name, each in start.network.state_dict().items()
    }
    trial = Trial("town", [other], uneven(0, 8, 0, 200), 19, 0.5, 3)
    made = trial.mixed(start, gain, "mine")
    for name, each in start.network.state_dict().items():
        assert torch.equal(each, made.network.state_dict()[name])
    assert made.card.metrics == start.card.metrics
    assert (made.card.name, made.card.instances) == ("mine", start.card.instances)


def test_the_core_of_objects_keeps_its_share_of_what_is_found() -> None:
    even = np.ones(PROBABILITY_MAX + 1, np.int64)
    sure = np.arange(PROBABILITY_MAX + 1, dtype=np.int64) ** 6
    assert core(even, even, 0.5, 0.8) == 0.8
    # Where probabilities are nearer to 1, the same share lies above a higher one.
    raised = core(even, sure, 0.5, 0.8) or 0
    assert sure[round(raised * 254) :].sum() / sure[127:].sum() == pytest.approx(0.4, abs=0.03)
    assert 0.85 < raised < 1
    assert core(even, sure, 0.4, None) is None
    assert core(even, sure, 0.4, 1.0) == 1.0


def test_the_guide_speaks_where_nothing_is_labelled() -> None:
    logits, former = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.9)
    known = torch.zeros(1, 2, 2, dtype=torch.uint8)
    assert guidance(logits, former, known) == 0
    assert guidance(former.logit(), former, known + IGNORE) < guidance(
        logits, former, known + IGNORE
    )


def test_former_probabilities_are_turned_and_scaled_with_their_window(town: Town) -> None:
    pieces, _ = read_labelled(Scene.open(town.image), str(town.polygons), None)
    known = [np.where(each.valid, np.uint8(1), np.uint8(0)) for each in pieces]
    marks = [np.zeros(each.valid.shape, np.uint8) for each in pieces]
    for mark, ids in zip(marks, known, strict=True):
        mark[:, : mark.shape[1] // 2] = PROBABILITY_MAX
        ids[:, mark.shape[1] // 2 :] = 0
    normalizer = Normalizer.of(Model.bundled().card, None)
    windows = LabelledWindows(pieces, known, marks, normalizer, 64)
    _, target, former = windows.batch(np.random.default_rng(3), 8)
    assert former.shape == (8, 1, 64, 64)
    assert 0 < target[target != IGNORE].float().mean() < 1
    assert ((former[:, 0] > 0.5) == (target == 1))[target != IGNORE].float().mean() > 0.98


def test_weights_are_averaged_and_counters_are_not() -> None:
    old = {"a": torch.zeros(2), "n": torch.tensor(3)}
    new = {"a": torch.ones(2), "n": torch.tensor(5)}
    mixed = blend(old, new, 0.25)
    assert mixed["a"].tolist() == [0.25, 0.25]
    assert mixed["n"] == 3


def test_windows_hold_their_pixel_and_mirror_the_edge() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        place = int(rng.integers(300))
        first = corner(rng, place, 64, 300)
        assert 0 <= first <= place < first + 64 <= 300
    assert corner(rng, 5, 64, 32) == -16
    assert mirrored(np.arange(-2, 6), 4).tolist() == [2, 1, 0, 1, 2, 3, 2, 1]


def test_minutes_end_the_fits() -> None:
    heard: list[int] = []
    clock = Clock(1e6, 600, lambda done, _: heard.append(done))
    assert 0 <= clock.done(0, 0) < clock.done(0, 60) < 1
    assert clock.done(1, 600) == 1.0
    assert heard[-1] == 10
    late = Clock(1.0, 600, None)
    late._began -= 0.5
    assert late.done(0, 0) >= 0.5
    clock.stop.request()
    assert clock.done(0, 1) == 1.0


def test_adapt_writes_a_model_with_its_history_and_says_a_sentence(
    town: Town, tmp_path: Path, geohr: Geohr
) -> None:
    start = Model.bundled()
    told = adapt(town.image, town.polygons, tmp_path / "mine.safetensors", options=QUICK)
    card = Model.load(tmp_path / "mine.safetensors").card
    assert (card.name, card.licence, card.sources) == (
        "mine",
        start.card.licence,
        start.card.sources,
    )
    assert card.threshold == start.card.threshold
    assert told.gain.describe() in card.notes
    assert card.metrics["town (left out in turn)"] == told.gain.as_dict()
    assert told.steps == 3
    assert told.describe().count("\n") == 0
    assert told.hectares == pytest.approx(0.5, abs=0.2)
    out = tmp_path / "again.safetensors"
    options = ("--steps", "3", "--tile", "64", "--batch", "2", "--gsd", "native", "--out", out)
    run = geohr("adapt", town.image, "--labels", town.polygons, *options)
    assert run.code == 0, run.err
    # The same seed gives the same model.
    assert run.out.startswith(f"{out}: {told.gain.describe()} (")
    assert run.out.count("\n") == 1
    assert "100 of 100" in run.err
    assert geohr("adapt", town.image, "--labels", town.polygons, *options).code == 2


def test_labels_that_cannot_be_used_are_refused(town: Town, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    plain = tmp_path / "plain.gpkg"
    pyogrio.read_dataframe(town.polygons, layer="labels").to_file(plain)
    with pytest.raises(InputError, match="--areas"):
        adapt(town.image, plain, out, options=QUICK)
    with pytest.raises(InputError, match="not vectors"):
        adapt(town.image, tmp_path / "none.gpkg", out, options=QUICK)
    with pytest.raises(UsageError, match="one class"):
        adapt(town.image, plain, out, model="land_cover", options=QUICK)
    with pytest.raises(UsageError, match="safetensors"):
        adapt(town.image, plain, tmp_path / "mine.pt", options=QUICK)
    away = tmp_path / "away.gpkg"
    for layer in ("labels", "labelled"):
        pyogrio.read_dataframe(town.polygons, layer=layer).to_crs(UTM).translate(1e5).to_file(
            away, layer=layer
        )
    with pytest.raises(InputError, match="0 objects and 0 completely labelled areas"):
        adapt(town.image, away, out, options=QUICK)
    yard = tmp_path / "yard.gpkg"
    pyogrio.read_dataframe(town.polygons, layer="labels")[:1].to_file(yard, layer="labels")
    west, north = ORIGIN
    little = shapely.box(west, north - 20, west + 20, north)
    geopandas.GeoDataFrame(geometry=[little], crs=UTM).to_file(yard, layer="labelled")
    with pytest.raises(InputError, match="square metres of labelled ground"):
        adapt(town.image, yard, out, options=QUICK)
    assert not out.exists()
