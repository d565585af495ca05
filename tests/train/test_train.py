"""Training runs: they learn, stop and go on, and say what is wrong."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from geohr.api.memory import predict
from geohr.errors import InputError, InterruptedRunError, UsageError
from geohr.geobox import Window
from geohr.models.card import Card, ClassLabel, Source, start_card
from geohr.models.model import Model
from geohr.training.logs import scalars
from geohr.training.options import TrainOptions
from geohr.training.run import as_segmented
from geohr.training.samples import Sample, pair, read_manifest
from geohr.training.train import learning_rate, train
from tests.makers import noise, one_class_card, random_model, write_scene
from tests.train.towns import Town, make_town

QUICK = TrainOptions(
    encoder="hrnetv2_w18_small_v1",
    steps=4,
    batch=2,
    tile=32,
    warmup=1,
    validate_every=2,
    checkpoint_every=1,
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return make_town(tmp_path_factory.mktemp("town"), "town")


@pytest.fixture(scope="module")
def samples(town: Town, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    other = make_town(tmp_path_factory.mktemp("other"), "other", height=70, width=80, seed=5)
    return (
        *pair([town.image], [town.polygons], split="train"),
        *pair([other.image], [other.raster], split="validation"),
    )


def stop_after(step: int) -> Callable[[int, int], None]:
    """Progress that sends the process SIGTERM after a step."""

    def progress(done: int, _: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


def same_weights(first: Model, second: Model) -> bool:
    """Whether all tensors are the same, bit by bit."""
    one, two = first.network.state_dict(), second.network.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_learns_what_a_roof_is(samples: tuple[Sample, ...], tmp_path: Path) -> None:
    options = dataclasses.replace(
        QUICK,
        steps=40,
        batch=4,
        tile=64,
        learning_rate=5e-3,
        ema=0.8,
        gsd_range=(0.5, 0.5),
        augment=("none",),
        validate_every=20,
        checkpoint_every=40,
    )
    model = train(samples, tmp_path / "m.safetensors", card=one_class_card(), options=options)
    assert model.card.metrics["other"]["iou"] > 0.6
    assert model.card.gsd == (0.5, 0.5)
    assert same_weights(Model.load(tmp_path / "m.safetensors"), model)
    with (tmp_path / "m.run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["step"]) for row in rows] == [20, 40]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    page = ElementTree.fromstring((tmp_path / "m.run" / "report.html").read_text())
    figures = [
        base64.b64decode(each.attrib["src"].partition(",")[2]) for each in page.findall("body/img")
    ]
    for figure, said in zip(
        figures,
        (("steps", "loss", "learning rate", "intersection over union", "other"),
         ("probability", "share of true pixels", "before", "after", "other")),
        strict=False,
    ):  # fmt: skip
        texts = {each.text for each in ElementTree.fromstring(figure).iter() if each.text}
        assert set(said) <= texts
    cells = [cell.text or "" for cell in page.findall("body/table[2]/tr/td")]
    assert sum(int(cell.replace(",", "")) for cell in cells) == 70 * 80
    with Image.open(io.BytesIO(figures[2])) as picture:
        assert picture.format == "PNG"
    events = EventAccumulator(str(tmp_path / "m.run" / "tensorboard")).Reload()
    assert [each.step for each in events.Scalars("IoU/mean")] == [20, 40]
    assert {"score", "seconds"}.isdisjoint(events.Tags()["scalars"])
    # Without validation the score is the number of the step, and no curve.
    assert scalars({"step": 4.0, "score": 4.0, "loss": 1.0}) == {"loss": 1.0}


@pytest.mark.parametrize(
    ("step", "architecture"),
    [
        pytest.param(1, "hrnetv2", marks=pytest.mark.full),
        (3, "hrnetv2"),
        pytest.param(2, "hrnetocr", marks=pytest.mark.full),
    ],
)
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    samples: tuple[Sample, ...], tmp_path: Path, step: int, architecture: str
) -> None:
    """Also where dropout draws at random."""
    options = dataclasses.replace(QUICK, architecture=architecture)
    whole = train(samples, tmp_path / "whole.safetensors", card=one_class_card(), options=options)
    out = tmp_path / "parts.safetensors"
    with pytest.raises(InterruptedRunError, match=f"after step {step} of 4.*--resume"):
        train(samples, out, card=one_class_card(), options=options, progress=stop_after(step))
    assert not out.exists()
    parts = train(samples, out, card=one_class_card(), options=options, resume=True)
    assert same_weights(whole, parts)
    assert whole.card == parts.card
    logs = [
        [
            {name: value for name, value in row.items() if name != "seconds"}
            for row in csv.DictReader((tmp_path / run / "log.csv").read_text().splitlines())
        ]
        for run in ("whole.run", "parts.run")
    ]
    assert logs[0] == logs[1]


def test_workers_do_not_die_of_what_stops_the_run(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    """A terminal sends SIGINT, and systemd SIGTERM, to the workers too."""

    def progress(done: int, _: int) -> None:
        if done == 1:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid or 0, signal.SIGINT)
                os.kill(worker.pid or 0, signal.SIGTERM)
                worker.join(1)
                assert worker.is_alive()
            os.kill(os.getpid(), signal.SIGTERM)

    options = dataclasses.replace(QUICK, workers=1)
    out = tmp_path / "m.safetensors"
    with pytest.raises(InterruptedRunError, match="after step 1 of 4"):
        train(samples, out, card=one_class_card(), options=options, progress=progress)
    whole = train(samples, tmp_path / "whole.safetensors", card=one_class_card(), options=QUICK)
    parts = train(samples, out, card=one_class_card(), options=options, resume=True)
    assert same_weights(whole, parts)


def test_passes_add_up_to_a_step_on_as_many_windows(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    seen: list[int] = []
    options = dataclasses.replace(QUICK, batch=1, tile=64, accumulate=2, steps=2)
    train(
        samples,
        tmp_path / "m.safetensors",
        card=one_class_card(),
        options=options,
        progress=lambda done, steps: seen.append(done * 10 + steps),
    )
    assert seen == [12, 22]


def test_workers_prepare_the_same_windows(samples: tuple[Sample, ...], tmp_path: Path) -> None:
    options = dataclasses.replace(QUICK, steps=2)
    there = train(samples, tmp_path / "a.safetensors", card=one_class_card(), options=options)
    apart = train(
        samples,
        tmp_path / "b.safetensors",
        card=one_class_card(),
        options=dataclasses.replace(options, workers=1),
    )
    assert same_weights(there, apart)


def test_fine_tuning_starts_from_the_initial_model(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    card = one_class_card(mean=(0.3, 0.3, 0.3), fusion="nearest")
    init = random_model(tmp_path / "init.safetensors", card=card)
    options = dataclasses.replace(
        QUICK, encoder=None, init=str(init), steps=1, learning_rate=0.0, ema=0.0
    )
    model = train(samples[:1], tmp_path / "m.safetensors", card=one_class_card(), options=options)
    assert (model.card.mean, model.card.fusion) == (card.mean, card.fusion)
    before, after = Model.load(init).network, model.network
    for (_, one), (_, two) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        assert torch.equal(one, two)


def test_fine_tuning_goes_on_at_another_stem_stride(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    init = random_model(tmp_path / "init.safetensors", card=one_class_card(fusion="nearest"))
    options = dataclasses.replace(
        QUICK, encoder=None, init=str(init), stem_stride=2, steps=1, learning_rate=0.0, ema=0.0
    )
    train(samples[:1], tmp_path / "m.safetensors", card=one_class_card(), options=options)
    model = Model.load(tmp_path / "m.safetensors")
    assert (model.card.stem_stride, model.card.fusion) == (2, "nearest")
    before, after = Model.load(init).network, model.network
    for (_, one), (_, two) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        assert torch.equal(one, two)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(before.eval()(pixels), after(pixels))


def test_fine_tuning_carries_on_what_the_initial_card_says(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    theirs, ours = Source("OSM", "ODbL-1.0", "OpenStreetMap"), Source("us", "CC-BY-4.0", "We")
    card = one_class_card(
        min_area=3.0, instances=0.5, instance_area=2.0, walls=0.4, licence="ODbL-1.0",
        sources=(theirs,), outline="contour", regularize=True, notes="Of one town.",
    )  # fmt: skip
    init = random_model(tmp_path / "init.safetensors", card=card)
    options = dataclasses.replace(QUICK, encoder=None, init=str(init), steps=1)
    new = dataclasses.replace(start_card(None, "mine"), sources=(ours,), walls=0.9)
    made = train(samples[:1], tmp_path / "m.safetensors", card=new, options=options).card
    assert (made.name, made.walls, made.sources) == ("mine", 0.9, (theirs, ours))
    assert (made.min_area, made.instances, made.instance_area) == (3.0, 0.5, 2.0)
    assert (made.outline, made.regularize, made.licence) == ("contour", True, "ODbL-1.0")
    assert made.notes.startswith("Trained further from ")
    assert made.notes.endswith("which says: Of one town.")


def test_a_missing_initial_model_leaves_nothing_behind(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    options = dataclasses.replace(QUICK, encoder=None, init=str(tmp_path / "none.safetensors"))
    with pytest.raises(InputError, match="no such model file"):
        train(samples, tmp_path / "m.safetensors", card=one_class_card(), options=options)
    assert not (tmp_path / "m.run").exists()


def test_the_initial_model_is_scored_first_and_the_test_split_last(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    init = random_model(tmp_path / "init.safetensors", card=one_class_card())
    options = dataclasses.replace(QUICK, encoder=None, init=str(init), learning_rate=0.0, ema=0.0)
    seen: list[Mapping[str, float]] = []
    tested = dataclasses.replace(samples[1], split="test", place="there")
    out = tmp_path / "m.safetensors"
    model = train(
        (*samples, tested), out, card=one_class_card(), options=options, watch=seen.append
    )
    assert [each["step"] for each in seen if "score" in each] == [0, 2, 4]
    assert [each["step"] for each in seen if "score" not in each] == [1, 2, 3, 4]
    assert "loss" not in seen[0]
    assert all("loss" in each for each in seen[1:])
    assert seen[0]["other"] == seen[0]["score"]
    best = max(each["score"] for each in seen if "score" in each)
    metrics = model.card.metrics
    assert metrics["other"]["iou"] == pytest.approx(best, abs=0.01)
    # The test split is scored with the calibrated weights, at the threshold that goes with them.
    assert tested.label is not None
    assert model.card.threshold is not None
    with rasterio.open(tested.label) as labels:
        truth = labels.read(1) == 1
    probabilities = predict(
        tested.scene.files[0], model=out, gsd="native", backend="torch"
    ).probabilities
    found = probabilities[0] >= model.card.threshold
    expected = (truth & found).sum() / (truth | found).sum()
    assert metrics["there"] == {"test_iou": pytest.approx(expected, abs=0.002)}


def test_a_checkpoint_is_not_lost_without_a_word(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    out = tmp_path / "m.safetensors"
    with pytest.raises(InterruptedRunError):
        train(samples, out, card=one_class_card(), options=QUICK, progress=stop_after(1))
    checkpoint = tmp_path / "m.run" / "checkpoint.pt"
    held = checkpoint.read_bytes()
    with pytest.raises(UsageError, match="go on with --resume, or start over with --overwrite"):
        train(samples, out, card=one_class_card(), options=QUICK)
    assert checkpoint.read_bytes() == held
    train(samples, out, card=one_class_card(), options=QUICK, overwrite=True)


def test_a_teacher_alone_is_imitated(town: Town, tmp_path: Path) -> None:
    """Without labels, a copy of the teacher has nothing to learn and another network does."""
    unlabelled = [dataclasses.replace(pair([town.image], [town.raster], split="train")[0])]
    unlabelled = [dataclasses.replace(each, label=None) for each in unlabelled]
    teacher = str(random_model(tmp_path / "teacher.safetensors"))
    options = dataclasses.replace(QUICK, teacher=teacher, steps=2, learning_rate=0.0)
    train(unlabelled, tmp_path / "other.safetensors", card=one_class_card(), options=options)
    rows = list(csv.DictReader((tmp_path / "other.run" / "log.csv").read_text().splitlines()))
    assert float(rows[-1]["loss"]) > 1e-4


def test_several_classes_are_a_softmax_with_a_background(tmp_path: Path) -> None:
    classes = np.zeros((1, 64, 64), np.uint8)
    classes[0, :32], classes[0, 32:, :32] = 1, 2
    image = write_scene(tmp_path / "a.tif", noise(64, 64))
    labels = write_scene(tmp_path / "a_labels.tif", classes)
    names = (ClassLabel("road", "#111111"), ClassLabel("water", "#0000ff"))
    card = one_class_card(classes=names, background=True, threshold=None)
    samples = [
        *pair([image], [labels], split="train"),
        *pair([image], [labels], split="validation"),
    ]
    model = train(samples, tmp_path / "m.safetensors", card=card, options=QUICK)
    assert model.network(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert 0 <= model.card.metrics["a"]["iou"] <= 1
    assert model.card.threshold is None
    page = ElementTree.fromstring((tmp_path / "m.run" / "report.html").read_text())
    heads = [each.text for each in page.findall("body/table[2]/tr[1]/th")]
    assert heads[1:] == ["background", "road", "water"]
    with pytest.raises(InputError, match='training needs "background": true'):
        train(
            samples, tmp_path / "n.safetensors", card=one_class_card(classes=names), options=QUICK
        )


@pytest.mark.parametrize(
    "architecture", [pytest.param("hrnetv1", marks=pytest.mark.full), "hrnetocr"]
)
def test_the_other_heads_train_and_are_read_back(
    samples: tuple[Sample, ...], tmp_path: Path, architecture: str
) -> None:
    options = dataclasses.replace(QUICK, architecture=architecture, steps=2)
    model = train(samples, tmp_path / "m.safetensors", card=one_class_card(), options=options)
    assert model.card.architecture == architecture
    again = Model.load(tmp_path / "m.safetensors").network
    pixels = torch.rand(1, 3, 40, 33)
    with torch.inference_mode():
        found = again(pixels)
        assert found.shape == (1, 1, 40, 33)
        assert torch.allclose(found, model.network.eval()(pixels), atol=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_the_rate_rises_then_falls_to_nothing(schedule: Literal["cosine", "poly"]) -> None:
    options = TrainOptions(steps=100, warmup=10, learning_rate=1.0, schedule=schedule)
    rates = [learning_rate(step, options) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0) == rates[10]
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(one > two for one, two in pairwise(rates[10:]))
    level = dataclasses.replace(options, schedule="constant")
    assert learning_rate(99, level) == 1.0


def test_the_authors_schedule_falls_nearly_evenly() -> None:
    options = TrainOptions(steps=100, warmup=0, learning_rate=1.0, schedule="poly")
    assert learning_rate(50, options) == pytest.approx(0.5**0.9)


def test_sgd_learns_and_resumes(samples: tuple[Sample, ...], tmp_path: Path) -> None:
    options = dataclasses.replace(QUICK, optimizer="sgd", learning_rate=0.05)
    whole = train(samples, tmp_path / "a.safetensors", card=one_class_card(), options=options)
    adam = train(samples, tmp_path / "c.safetensors", card=one_class_card(), options=QUICK)
    assert not same_weights(whole, adam)
    out = tmp_path / "b.safetensors"
    with pytest.raises(InterruptedRunError):
        train(samples, out, card=one_class_card(), options=options, progress=stop_after(2))
    parts = train(samples, out, card=one_class_card(), options=options, resume=True)
    assert same_weights(whole, parts)


def test_classes_weigh_as_they_are_told_to(samples: tuple[Sample, ...], tmp_path: Path) -> None:
    """With roofs alone counting, everything is soon called a roof."""
    options = dataclasses.replace(
        QUICK, steps=12, learning_rate=5e-3, losses=("ce",), ema=0.0, class_weights=(0.0, 1.0)
    )
    model = train(samples[:1], tmp_path / "m.safetensors", card=one_class_card(), options=options)
    with torch.inference_mode():
        assert model.network.eval()(torch.rand(1, 3, 64, 64)).median() > 0


def test_an_option_younger_than_the_checkpoint_had_its_default(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    out = tmp_path / "m.safetensors"
    train(samples, out, card=one_class_card(), options=dataclasses.replace(QUICK, steps=1))
    path = tmp_path / "m.run" / "checkpoint.pt"
    content = torch.load(path)
    before = json.loads(content["options"])
    del before["class_weights"]
    torch.save({**content, "options": json.dumps(before)}, path)
    options = dataclasses.replace(QUICK, steps=2)
    train(samples, out, card=one_class_card(), options=options, resume=True)
    weighted = dataclasses.replace(options, class_weights=(1.0, 2.0))
    torch.save({**content, "options": json.dumps(before)}, path)
    with pytest.raises(UsageError, match="the run had class_weights=None, now"):
        train(samples, out, card=one_class_card(), options=weighted, resume=True)


def test_a_run_resumed_with_the_steps_it_has_done_is_validated_and_written(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    out = tmp_path / "m.safetensors"
    options = dataclasses.replace(QUICK, steps=8, validate_every=8)
    with pytest.raises(InterruptedRunError):
        train(samples, out, card=one_class_card(), options=options, progress=stop_after(3))
    options = dataclasses.replace(options, steps=3)
    model = train(samples, out, card=one_class_card(), options=options, resume=True)
    assert set(model.card.metrics) == {"other"}
    (row,) = csv.DictReader((tmp_path / "m.run" / "log.csv").read_text().splitlines())
    assert float(row["step"]) == 3


def test_a_place_without_labels_has_no_score(samples: tuple[Sample, ...], tmp_path: Path) -> None:
    empty = write_scene(tmp_path / "empty.tif", np.full((1, 70, 80), 255, np.uint8))
    image = write_scene(tmp_path / "bare.tif", noise(70, 80))
    bare = pair([image], [empty], split="validation")
    out = tmp_path / "m.safetensors"
    model = train((*samples, *bare), out, card=one_class_card(), options=QUICK)
    assert set(model.card.metrics) == {"other"}


def test_bands_are_learnt_as_they_are_segmented(town: Town, tmp_path: Path) -> None:
    with rasterio.open(town.image) as source:
        red, green, blue = source.read()
    path = write_scene(tmp_path / "turned.tif", np.stack([blue, green, red, green]))
    with rasterio.open(path, "r+") as raster:
        raster.descriptions = ("blue", "green", "red", "nir")
    (turned,) = pair([path], [town.raster], split="train")
    (plain,) = pair([town.image], [town.raster], split="train")
    one, other = (as_segmented(each, one_class_card()).scene for each in (turned, plain))
    window = Window(0, 0, 128, 160)
    assert (one.read(window).pixels == other.read(window).pixels).all()


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (noise(70, 80).astype(np.uint16) * 40, "uint16 values from .* to .* expects 0 to 255"),
        (noise(70, 80).astype(np.float32) / 255, "float32 values from"),
    ],
)
def test_values_that_segment_would_refuse_are_not_learnt(
    pixels: Any, says: str, tmp_path: Path
) -> None:
    image = write_scene(tmp_path / "wide.tif", pixels)
    labels = write_scene(tmp_path / "labels.tif", np.zeros((1, 70, 80), np.uint8))
    with pytest.raises(InputError, match=f'{says}.*--card whose "range"'):
        refused(pair([image], [labels], split="train"), tmp_path)


def test_validation_labels_of_no_class_are_refused(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    labels = write_scene(tmp_path / "labels.tif", np.full((1, 70, 80), 7, np.uint8))
    image = write_scene(tmp_path / "image.tif", noise(70, 80))
    wrong = pair([image], [labels], split="validation")
    with pytest.raises(
        InputError, match=r"labels\.tif: a label holds class 7, but the model has 1"
    ):
        refused((*samples, *wrong), tmp_path)


def test_the_card_says_at_which_resolutions_it_was_trained(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    model = train(samples, tmp_path / "m.safetensors", card=one_class_card(), options=QUICK)
    assert model.card.gsd == pytest.approx((0.5, 0.5), rel=1e-3)
    assert model.card.gsd_best is None
    asked = dataclasses.replace(QUICK, gsd_range=(0.05, 1.0))
    model = train(samples, tmp_path / "n.safetensors", card=one_class_card(), options=asked)
    assert model.card.gsd == pytest.approx((0.125, 1.0), rel=1e-3)
    assert model.card.gsd_best is None


def test_training_stops_when_patience_ends(samples: tuple[Sample, ...], tmp_path: Path) -> None:
    steps: list[int] = []
    options = dataclasses.replace(
        QUICK, steps=40, validate_every=1, patience=1, learning_rate=0.0, ema=0.0
    )
    train(
        samples,
        tmp_path / "m.safetensors",
        card=one_class_card(),
        options=options,
        progress=lambda done, _: steps.append(done),
    )
    assert len(steps) < 40


def refused(samples: Any, tmp_path: Path, card: Card | None = None, **changes: Any) -> None:
    """Train with changed options."""
    train(
        samples,
        tmp_path / "m.safetensors",
        card=card or one_class_card(),
        options=dataclasses.replace(QUICK, **changes),
    )


def test_bad_options_are_named(samples: tuple[Sample, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="losses must name some of"):
        refused(samples, tmp_path, losses=("mse",))
    with pytest.raises(UsageError, match="class_weights must be 2 numbers"):
        refused(samples, tmp_path, class_weights=(1.0, 1.0, 2.0))
    with pytest.raises(UsageError, match="augment must name some of"):
        refused(samples, tmp_path, augment=("fog",))
    with pytest.raises(UsageError, match="MIN,MAX in metres"):
        TrainOptions(gsd_range=(0.5, 0.1))
    with pytest.raises(UsageError, match="at least one loss"):
        TrainOptions(losses=())
    with pytest.raises(UsageError, match="batch 1 with tile 32"):
        TrainOptions(batch=1, tile=32)
    with pytest.raises(InputError, match="unknown architecture 'vgg'"):
        refused(samples, tmp_path, architecture="vgg")
    with pytest.raises(InputError, match="no sample of split train"):
        refused(samples[1:], tmp_path)
    with pytest.raises(UsageError, match=r"named \*\.safetensors"):
        train(samples, tmp_path / "m.pt", card=one_class_card(), options=QUICK)


def test_models_that_do_not_fit_are_refused(samples: tuple[Sample, ...], tmp_path: Path) -> None:
    other = random_model(tmp_path / "other.safetensors", card=one_class_card(mean=(0.1, 0.1, 0.1)))
    with pytest.raises(InputError, match=r"other\.safetensors: has mean"):
        refused(samples, tmp_path, teacher=str(other))
    two = (ClassLabel("a", "#111111"), ClassLabel("b", "#222222"))
    with pytest.raises(InputError, match="has channels 1, but the new model has 3"):
        refused(
            samples,
            tmp_path,
            card=one_class_card(classes=two, background=True),
            encoder=None,
            init=str(other),
        )
    with pytest.raises(UsageError, match="encoder is hrnetv2_w30"):
        refused(samples, tmp_path, encoder="hrnetv2_w30", init=str(other))
    card = one_class_card(architecture="fpn")
    fpn = random_model(tmp_path / "fpn.safetensors", card=card)
    with pytest.raises(InputError, match="at stem stride 8 the decoder fpn has other weights"):
        refused(samples, tmp_path, encoder=None, init=str(fpn), stem_stride=8)
    with pytest.raises(InputError, match=r"cannot be built on encoder 'resnet18' \(stem_stride is"):
        refused(samples, tmp_path, architecture="fpn", encoder="resnet18", stem_stride=8)


def test_a_class_that_the_card_lacks_is_named(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "a.tif", noise(40, 40))
    labels = write_scene(tmp_path / "b.tif", np.full((1, 40, 40), 7, np.uint8))
    with pytest.raises(InputError, match="class 7, but the model has 1"):
        refused(pair([image], [labels], split="train"), tmp_path)


def test_a_checkpoint_of_another_run_is_refused(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    out = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match="no checkpoint to resume"):
        train(samples, out, card=one_class_card(), options=QUICK, resume=True)
    train(samples, out, card=one_class_card(), options=dataclasses.replace(QUICK, steps=1))
    changed = dataclasses.replace(QUICK, batch=3)
    with pytest.raises(UsageError, match="the run had batch=2, now 3"):
        train(samples, out, card=one_class_card(), options=changed, resume=True)
    (tmp_path / "m.run" / "checkpoint.pt").write_bytes(b"PK no")
    with pytest.raises(InputError, match="the checkpoint is damaged"):
        train(samples, out, card=one_class_card(), options=QUICK, resume=True)


def write_manifest(path: Path, entries: Any) -> Path:
    """A manifest file."""
    path.write_text(json.dumps(entries))
    return path


def test_a_manifest_gives_samples(town: Town, tmp_path: Path) -> None:
    bare = write_scene(tmp_path / "bare.tif", noise(20, 20), crs=None)
    entries = [
        {"image": str(town.image), "label": str(town.raster), "place": "a", "split": "train"},
        {
            "image": bare.name,
            "label": None,
            "place": "b",
            "split": "test",
            "gsd": 0.3,
            "weight": 0.5,
            "dataset": "ours",
        },
    ]
    first, second = read_manifest(write_manifest(tmp_path / "data.json", entries))
    assert first.gsd == pytest.approx(0.5, rel=1e-3)
    assert first.scene.height == 128
    assert (second.gsd, second.weight, second.label) == (0.3, 0.5, None)
    assert second.scene.path == str(bare)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, "split 'dev'; allowed are train, validation, test"),
        ({"weight": -1}, "weight -1; it must be a number from 0"),
        ({"place": 3}, "place 3; it must be a text"),
        ({"gsd": 0}, "gsd must be metres above 0"),
        ({"image": "missing.tif"}, "missing.tif: no such file"),
        ({"place": None}, "lacks place"),
    ],
)
def test_a_bad_manifest_entry_is_named(
    town: Town, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    entry = {"image": str(town.image), "label": str(town.raster), "place": "a", "split": "train"}
    entry = {name: value for name, value in {**entry, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        read_manifest(write_manifest(tmp_path / "data.json", [entry]))


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "none.json")
    with pytest.raises(InputError, match="a JSON list of samples"):
        read_manifest(write_manifest(tmp_path / "data.json", {}))
    (tmp_path / "data.json").write_text("[")
    with pytest.raises(InputError, match="not a JSON manifest"):
        read_manifest(tmp_path / "data.json")


def test_scenes_need_labels_and_a_scale(town: Town, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 scenes and 1 file of labels"):
        pair([town.image, town.image], [town.raster], split="train")
    bare = write_scene(tmp_path / "bare.tif", noise(20, 20), crs=None)
    with pytest.raises(InputError, match=r"no georeference.*--gsd"):
        pair([bare], [bare], split="train")


def test_labels_off_the_grid_are_refused(town: Town, tmp_path: Path) -> None:
    small = write_scene(tmp_path / "small.tif", np.zeros((1, 9, 9), np.uint8))
    with pytest.raises(InputError, match="9 x 9 pixels, but its scene"):
        refused(pair([town.image], [small], split="train"), tmp_path)
    wide = write_scene(tmp_path / "wide.tif", np.zeros((1, 128, 160), np.uint16))
    with pytest.raises(InputError, match="uint16 labels; class ids must be uint8"):
        refused(pair([town.image], [wide], split="train"), tmp_path)


def test_a_card_starts_from_a_file(tmp_path: Path) -> None:
    assert start_card(None, "mine").name == "mine"
    path = tmp_path / "card.json"
    path.write_text(json.dumps({"licence": "CC0", "name": "roofs"}))
    card = start_card(path, "mine")
    assert (card.name, card.licence, card.classes[0].name) == ("roofs", "CC0", "building")
    path.write_text(json.dumps({"colour": "red"}))
    with pytest.raises(InputError, match="unknown entries colour"):
        start_card(path, "mine")
    path.write_text("[]")
    with pytest.raises(InputError, match="a card is a JSON object"):
        start_card(path, "mine")
