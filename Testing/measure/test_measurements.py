"""Microbleeds from end to end, and the rules by which the tables of lesions are made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydantic import ValidationError
from scipy import ndimage
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

import medseg.cli
from medseg import Result, Volume, run
from medseg.errors import InputError, ModelError
from medseg.geometry.grid import Grid
from medseg.io import read_volume
from medseg.measure.features import first_order_cells, first_order_columns, shape_cells, shape_columns
from medseg.measure.location import Parcellation, standard, structure_of
from medseg.measure.named import count_category, further_tables
from medseg.measure.segments import measure
from medseg.model.manifest.schema import Manifest
from medseg.monitor import Monitor
from medseg.pipeline.explain import explain
from medseg.result import Layer, SegmentClass
from support import measurement_models as models

ROOT = Path(__file__).resolve().parents[2]
OBLIQUE = Rotation.from_euler("xyz", [6, -8, 10], degrees=True).as_matrix()
RED = (1.0, 0.0, 0.0)


def records(table) -> list[dict]:
    return [dict(zip((c.name for c in table.columns), row, strict=True)) for row in table.rows]


# -- microbleeds ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def microbleeds(tmp_path_factory):
    """Package, volume and centre of a head that is scanned obliquely, with axes that grow to L, I and A."""
    direction = OBLIQUE @ np.array([[1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]])
    volume, centre = models.brain(direction)
    return models.microbleed_packages(tmp_path_factory.mktemp("models")), volume, centre


@pytest.fixture(scope="module")
def found(microbleeds) -> Result:
    package, volume, _ = microbleeds
    return run(package, volume, device="cpu", threads=1)


def test_each_microbleed_is_listed_at_its_place_with_its_region(microbleeds, found):
    """Mask, crop, RAS at 0.5 mm, patches, filter, native grid: one wrong step and a bleed is missing or elsewhere."""
    _, volume, centre = microbleeds
    assert found.grid == volume.grid and found.layers[0].labels.shape == volume.array.shape
    lesions = records(found.tables["lesions"])
    assert len(lesions) == len(models.LESIONS)
    for at, (region, location) in models.LESIONS.items():
        ras = (centre + at) * [-1, -1, 1]
        nearest = min(
            lesions, key=lambda r: sum((r[f"centre_{a}_mm"] - v) ** 2 for a, v in zip("ras", ras, strict=True))
        )
        np.testing.assert_allclose([nearest[f"centre_{a}_mm"] for a in "ras"], ras, atol=0.6)
        assert (nearest["region"], nearest["location"]) == (region, location)
        assert nearest["equivalent_radius_mm"] == pytest.approx(models.RADIUS, abs=0.35)
        assert nearest["brain_label"] in models.STRUCTURES.values() and 0 < nearest["brain_label_share"] <= 1
        assert nearest["major_axis_length_mm"] >= nearest["minor_axis_length_mm"] >= nearest["least_axis_length_mm"] > 0
        assert nearest["minimum"] <= nearest["median"] <= nearest["maximum"]


def test_a_dark_spot_in_a_ventricle_or_outside_the_brain_is_no_microbleed(microbleeds, found):
    _, volume, centre = microbleeds
    for at in (models.IN_VENTRICLE, models.IN_SCALP):
        i, j, k = np.rint(volume.grid.to_index(centre + at)).astype(int)
        assert not found.layers[0].labels[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2].any()
    (step,) = found.provenance["postprocessing"]
    assert step["components_removed"] >= 1, "the spot in the ventricle must have been found, then removed"


def test_lesions_that_the_parcellation_leaves_out_are_kept_where_its_labels_are_spread(microbleeds, tmp_path):
    """Dark lesions are holes in a parcellation of the same image; all of them would be filtered away."""
    _, volume, _ = microbleeds
    lost, kept = (
        run(models.microbleed_packages(tmp_path / str(mm), holes=True, spread_mm=mm), volume, device="cpu", threads=1)
        for mm in (0.0, 2.0)
    )
    assert len(lost.tables["lesions"].rows) < len(kept.tables["lesions"].rows)
    deep = [r for r in records(kept.tables["lesions"]) if r["region"] == "thalamus"]
    assert len(deep) == 1 and deep[0]["brain_label_share"] > 0.5
    assert kept.provenance["required_models"]["structures"]["spread_mm"] == 2.0


def test_counts_say_which_thresholds_are_reached(found):
    counts = {(r["grouping"], r["group"]): r for r in records(found.tables["counts"])}
    total = counts["all", "all"]
    assert total["lesions"] == 5 and total["category"] == "5-10"
    assert [total[f"at_least_{n}"] for n in (1, 3, 5, 11)] == [True, True, True, False]
    assert counts["location", "lobar"]["lesions"] == 3 and counts["location", "deep"]["lesions"] == 2
    assert counts["region", "subcortical white matter"]["lesions"] == 2
    assert counts["region", "cerebellum"]["lesions"] == 0 and counts["region", "cerebellum"]["category"] == "0"
    assert total["volume_mm3"] == pytest.approx(sum(found.tables["lesions"].column("volume_mm3")))


def test_the_other_label_list_can_be_chosen_and_is_recorded(microbleeds, found):
    package, volume, _ = microbleeds
    other = run(package, volume, device="cpu", threads=1, choices={"brain labels": "command"})
    assert "brainstem" not in other.tables["lesions"].column("region") and len(other.tables["lesions"].rows) == 4
    assert "brainstem" in found.tables["lesions"].column("region"), "the brainstem is kept by default"
    assert found.provenance["parameters"]["choices"] == {"brain labels": "published"}
    assert other.provenance["parameters"]["choices"] == {"brain labels": "command"}


def test_an_unknown_choice_is_refused_with_what_there_is(microbleeds):
    package, volume, _ = microbleeds
    with pytest.raises(InputError, match="cannot be 'other'; choose published or command"):
        run(package, volume, choices={"brain labels": "other"})
    with pytest.raises(InputError, match="no choice 'labels'; it has: brain labels"):
        explain(package, volume, choices_of("labels=published"))


def choices_of(*texts: str):
    from medseg import RunOptions
    from medseg.cli.execute import parse_choices

    return RunOptions(device="cpu", choices=parse_choices(list(texts)))


@pytest.mark.parametrize("command", ["run", "explain"])
def test_the_command_line_takes_choices_as_name_and_option(microbleeds, tmp_path, command):
    package, volume, _ = microbleeds
    sitk.WriteImage(sitk.GetImageFromArray(volume.array), str(tmp_path / "swi.nrrd"))
    output = ["-o", str(tmp_path / "out")] if command == "run" else []
    arguments = [command, str(package), str(tmp_path / "swi.nrrd"), *output, "--choose", "brain labels=other"]
    done = CliRunner().invoke(medseg.cli.app, arguments)
    assert done.exit_code == 2 and "choose published or command" in done.stderr
    assert choices_of("brain labels=command").choices == {"brain labels": "command"}
    with pytest.raises(InputError, match="not of the form NAME=OPTION"):
        choices_of("command")


# -- location rules ---------------------------------------------------------------------------------------------------


def parcellation(values: np.ndarray, names: dict[int, str], grid: Grid, **options) -> Parcellation:
    classes = tuple(SegmentClass(v, n, RED) for v, n in names.items())
    result = Result(grid, (Layer(values.astype(np.uint16), classes),))
    monitor = options.pop("monitor", None) or Monitor()
    return Parcellation(
        result, options.pop("onto", grid), labels=options.pop("labels", "freesurfer"),
        scheme=options.pop("scheme", "bombs"), name="brain", monitor=monitor,
    )  # fmt: skip


ROW = Grid((10, 1, 1), (1, 1, 1), (0, 0, 0), np.eye(3))
WHOLE = (slice(0, 1), slice(0, 1), slice(0, 10))
LABELS = {int(n): "any name" for n in ("2", "3", "4", "10", "16", "28", "41", "42", "47")}


@pytest.mark.parametrize(
    ("values", "label", "region", "location"),
    [
        ([3] * 6 + [2] * 4, "Left-Cerebral-White-Matter", "subcortical white matter", "lobar"),
        ([42] * 6 + [2] * 4, "Left-Cerebral-White-Matter", "subcortical white matter", "lobar"),
        ([3] * 5 + [10] * 3 + [2] * 2, "Left-Cerebral-Cortex", "cortex/grey-white junction", "lobar"),
        ([3] * 10, "Left-Cerebral-Cortex", "cortex/grey-white junction", "lobar"),
        ([2] * 6 + [3] * 4, "Left-Cerebral-White-Matter", "subcortical white matter", "lobar"),
        ([4] * 8 + [10] * 2, "Left-Thalamus", "thalamus", "deep"),
        ([0] * 9 + [28], "Left-VentralDC", "brainstem", "deep"),
        ([47] * 10, "Right-Cerebellum-Cortex", "cerebellum", "deep"),
    ],
)
def test_the_largest_overlap_decides_and_white_matter_next_to_cortex_wins(values, label, region, location):
    """The published rule; ventricles and background never decide."""
    labels = np.array(values).reshape(ROW.shape)
    place = parcellation(labels, LABELS, ROW).place(WHOLE, np.ones(ROW.shape, bool))
    assert (place.label, place.region, place.location) == (label, region, location)


def test_a_lesion_on_no_brain_label_has_no_place_and_shares_count_all_its_voxels():
    labels = np.array([16, 16, 0, 0, 4, 0, 0, 0, 0, 0]).reshape(ROW.shape)
    brain = parcellation(labels, LABELS, ROW)
    assert brain.place((slice(0, 1), slice(0, 1), slice(2, 10)), np.ones((1, 1, 8), bool)) is None
    assert brain.place(WHOLE, np.ones(ROW.shape, bool)).share == pytest.approx(0.2)


def test_a_cortex_in_many_regions_weighs_as_one():
    """Else a lesion in cortex would be called white matter only because the parcellation is finer."""
    names = {1: "ctx-lh-insula", 2: "ctx-lh-cuneus", 3: "Left-Thalamus-Proper", 4: "Left-Cerebral-White-Matter"}
    labels = np.array([1, 1, 1, 2, 2, 3, 3, 3, 3, 4]).reshape(ROW.shape)
    place = parcellation(labels, names, ROW, labels="names").place(WHOLE, np.ones(ROW.shape, bool))
    assert (place.label, place.region, place.share) == ("ctx-lh-insula", "cortex/grey-white junction", 0.5)


def test_a_parcellation_on_another_grid_is_met_by_position():
    coarse = Grid((5, 1, 1), (2, 1, 1), (0.5, 0, 0), np.eye(3))
    labels = np.array([2, 2, 10, 10, 10]).reshape(coarse.shape)
    brain = parcellation(labels, LABELS, coarse, onto=ROW)
    first, last = (np.arange(10) < 4).reshape(ROW.shape), (np.arange(10) >= 4).reshape(ROW.shape)
    assert brain.place(WHOLE, first).region == "subcortical white matter"
    assert brain.place(WHOLE, last).region == "thalamus"


def test_infratentorial_can_be_kept_apart_from_deep():
    labels = np.full(ROW.shape, 16)
    place = parcellation(labels, LABELS, ROW, scheme="bombs-infratentorial").place(WHOLE, np.ones(ROW.shape, bool))
    assert (place.region, place.location) == ("brainstem", "infratentorial")


def test_every_published_label_and_every_meshnet_class_has_its_structure():
    """A name that is not recognised would silently lose the lesions in it."""
    published = [2, 3, 7, 8, *range(10, 14), 16, 17, 18, 26, 28, 41, 42, 46, 47, *range(49, 55), 58, 60]
    names, regions = standard("freesurfer")["labels"], standard("bombs")["regions"]
    assert all(structure_of(names[str(n)])[1] in regions for n in published)
    assert all(structure_of(names[str(n)])[1] == "cerebrospinal fluid" for n in (4, 5, 14, 15, 24, 43, 44))
    assert structure_of(names["2"])[0] == "left" and structure_of(names["41"])[0] == "right"
    known = set(standard("brain_structures")["structures"])
    assert set(regions) == known - {"cerebrospinal fluid"}
    meshnet = json.loads((ROOT / "Testing/real_models/meshnet-subcortical-18.json").read_text(encoding="utf-8"))
    assert all(structure_of(c["name"]) for c in meshnet["classes"])
    for recipe in ("meshnet-50", "meshnet-104"):
        path = ROOT / f"MedSegExtension/Resources/Models/recipes/{recipe}.json"
        classes = json.loads(path.read_text(encoding="utf-8"))["manifest"]["classes"]
        assert [c["name"] for c in classes if structure_of(c["name"]) is None] == []


def test_unknown_labels_are_told_and_a_model_without_brain_structures_is_refused():
    monitor = Monitor()
    parcellation(np.full(ROW.shape, 2), {2: "Thalamus", 9: "Tumour"}, ROW, labels="names", monitor=monitor)
    assert any("1 labels are not known as brain structures" in w and "Tumour" in w for w in monitor.warnings)
    with pytest.raises(ModelError, match="No class of the model 'brain' is a brain structure"):
        parcellation(np.ones(ROW.shape), {1: "Liver"}, ROW, labels="names")


@pytest.mark.real_data
def test_a_real_meshnet_parcellation_locates_lesions(shared):
    """Deep inside a structure of a real brain a lesion must be in that structure's region, whatever the grid."""
    volume = read_volume(shared / "models/meshnet-subcortical-18/onnx_labels_raw.nii.gz")
    labels = volume.array.astype(np.uint8)
    classes = json.loads((ROOT / "Testing/real_models/meshnet-subcortical-18.json").read_text(encoding="utf-8"))[
        "classes"
    ]
    names = {c["value"]: c["name"] for c in classes}
    coarse = volume.grid.reoriented("RAS").with_spacing((2.0, 2.0, 3.0))
    brain = parcellation(labels, names, volume.grid, onto=coarse, labels="names")
    regions = {"Thalamus": "thalamus", "Putamen": "basal ganglia", "Brain Stem": "brainstem"}
    regions |= {"Cerebellum Cortex": "cerebellum", "Cerebral White Matter": "subcortical white matter"}
    k, j, i = np.indices(coarse.shape)
    positions = coarse.to_physical(np.stack([i, j, k], -1))
    boxes = ndimage.find_objects(labels)
    for name, region in regions.items():
        value = next(v for v, n in names.items() if n == name)
        inside = labels[boxes[value - 1]][::2, ::2, ::2] == value
        deepest = 2 * np.array(np.unravel_index(np.argmax(ndimage.distance_transform_edt(inside)), inside.shape))
        deepest += [b.start for b in boxes[value - 1]]
        ball = np.linalg.norm(positions - volume.grid.to_physical(deepest[::-1]), axis=-1) < 3.2
        place = brain.place((slice(None), slice(None), slice(None)), ball)
        assert (place.label, place.region) == (name, region) and place.share > 0.5


# -- features ---------------------------------------------------------------------------------------------------------


def test_features_of_a_box_equal_numbers_by_hand():
    grid = Grid((8, 8, 8), (1.0, 2.0, 3.0), (0, 0, 0), OBLIQUE)
    box, mask = (slice(2, 4), slice(1, 4), slice(1, 5)), np.ones((2, 3, 4), bool)  # 4 x 3 x 2 voxels along i, j, k
    cells = dict(zip((c.name for c in shape_columns()), shape_cells(box, mask, grid), strict=True))
    # Principal variances of a row of n points at distance d: d^2 (n^2 - 1) / 12.
    i, j, k = 1 * 15 / 12, 4 * 8 / 12, 9 * 3 / 12
    major, minor, least = sorted((4 * np.sqrt(v) for v in (i, j, k)), reverse=True)
    assert cells["major_axis_length_mm"] == pytest.approx(major)
    assert cells["minor_axis_length_mm"] == pytest.approx(minor)
    assert cells["least_axis_length_mm"] == pytest.approx(least)
    # In the plane of i and j the farthest surface points are half a voxel beyond the outer centres of one axis.
    assert cells["maximum_2d_diameter_slice_mm"] == pytest.approx(max(np.hypot(4, 4), np.hypot(3, 6)))
    assert cells["maximum_2d_diameter_column_mm"] == pytest.approx(max(np.hypot(4, 3), np.hypot(3, 6)))
    assert cells["maximum_2d_diameter_row_mm"] == pytest.approx(max(np.hypot(6, 3), np.hypot(4, 6)))
    assert cells["surface_area_mm2"] is None, "too few voxels for a surface"


def test_first_order_features_equal_numbers_by_hand():
    values = np.array([0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100], np.int16)
    names = [c.name for c in first_order_columns("HU", 25)]
    cells = dict(zip(names, first_order_cells(values, 25.0, 0.5), strict=True))
    expected = {
        "minimum": 0, "percentile_10": 10, "median": 50, "percentile_90": 90, "maximum": 100, "range": 100,
        "interquartile_range": 50, "mean_absolute_deviation": 300 / 11, "robust_mean_absolute_deviation": 200 / 9,
        "variance": 1000, "skewness": 0, "kurtosis": 1.78, "energy": 38500, "total_energy": 19250,
        "root_mean_squared": np.sqrt(3500), "uniformity": (9 + 4 + 9 + 4 + 1) / 121,
        "entropy": -sum(n / 11 * np.log2(n / 11) for n in (3, 2, 3, 2, 1)),
    }  # fmt: skip
    assert names == list(cells) and set(cells) == set(expected)
    for name, value in expected.items():
        assert cells[name] == pytest.approx(value), name
    flat = dict(zip(names, first_order_cells(np.array([7]), 25.0, 1.0), strict=True))
    assert flat["skewness"] == flat["kurtosis"] == flat["entropy"] == 0 and flat["uniformity"] == 1


@pytest.mark.parametrize(
    ("count", "category"), [(0, "0"), (1, "1-2"), (2, "1-2"), (3, "3-4"), (10, "5-10"), (11, ">=11")]
)
def test_categories_lie_between_the_thresholds(count, category):
    assert count_category(count, [1, 3, 5, 11]) == category


def test_a_scan_without_lesions_is_counted_as_zero():
    """An absent row would read as 'not looked at'."""
    manifest = lesion_manifest(
        [{"kind": "lesion_location", "of": "s"}, {"kind": "lesion_features"}, {"kind": "lesion_counts"}]
    )
    layers = (Layer(np.zeros(ROW.shape, np.uint8), (SegmentClass(1, "bleed", RED, lesion=True),)),)
    result = Result(ROW, layers, tables=measure(layers, np.zeros(ROW.shape), ROW, connectivity=6))
    brain = Result(ROW, (Layer(np.ones(ROW.shape, np.uint8), (SegmentClass(1, "Thalamus", RED),)),))
    tables = further_tables(manifest, result, Volume(np.zeros(ROW.shape), ROW, "MR"), {"s": brain}, Monitor())
    counts = records(tables["counts"])
    assert [r["lesions"] for r in counts if r["grouping"] == "all"] == [0]
    assert not any(r["at_least_1"] for r in counts) and tables["lesions"].rows == ()
    assert {"region", "entropy", "surface_area_mm2"} <= {c.name for c in tables["lesions"].columns}


@pytest.mark.parametrize(("connectivity", "count"), [(6, 2), (26, 1)])
def test_what_is_one_lesion_is_the_manifest_s_to_say(tmp_path, connectivity, count):
    image = np.zeros((6, 6, 6), np.float32)
    image[2, 2, 2] = image[3, 3, 3] = 100
    volume = Volume(image, Grid((6, 6, 6), (1, 1, 1), (0, 0, 0), np.eye(3)), "MR")
    changes = {"postprocessing": [], "preprocessing": [], "requires": [], "lesion_connectivity": connectivity}
    package = models.threshold_package(tmp_path / "threshold", 50, measurements=[{"kind": "lesion_counts"}], **changes)
    tables = run(package, volume, device="cpu", threads=1).tables
    assert len(tables["lesions"].rows) == tables["counts"].column("lesions")[0] == count


def lesion_manifest(measurements: list[dict], **changes) -> Manifest:
    return Manifest.model_validate(
        {
            "medseg_manifest": 1, "id": "x", "version": "1", "title": "X", "task": "segmentation", "license": "MIT",
            "weights": {"file": "m.onnx"}, "channels": [{"name": "MR"}], "inputs": [{"name": "x", "layout": "NCDHW"}],
            "requires": [{"name": "s", "model": "m"}], "inference": {"mode": "whole"},
            "output": {"tensor": "y", "layout": "NCDHW", "activation": "softmax"},
            "classes": [{"value": 1, "name": "bleed", "lesion": True}], "measurements": measurements, **changes,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("measurement", "changes", "sentence"),
    [
        ({"kind": "lesion_location", "of": "t"}, {}, "'t' is not the name of a required model"),
        ({"kind": "lesion_counts"}, {"classes": [{"value": 1, "name": "a"}]}, "needs a class with lesion: true"),
        ({"kind": "lesion_counts", "thresholds": [3, 1]}, {}, "each greater than the one before"),
        ({"kind": "area_ratio", "segments": ["lung"]}, {}, "'lung' is not the name of a class"),
        ({"kind": "rsna_long_csv"}, {}, "needs a classification of slices"),
        ({"kind": "lesion_colour"}, {}, "lesion_colour"),
        (
            {"kind": "lesion_counts"},
            {"postprocessing": [{"step": "keep_by_location", "of": "s", "labels": "brain"}]},
            "'brain' is not the name of a choice",
        ),
        (
            {"kind": "lesion_counts"},
            {"choices": {"a": {"default": "x", "options": {"y": [1]}}}},
            "not one of the options",
        ),
    ],
)
def test_a_manifest_that_cannot_be_measured_is_refused_by_field(measurement, changes, sentence):
    with pytest.raises(ValidationError, match=sentence):
        lesion_manifest([measurement], **changes)
