"""The recipes say what the contracts say, and each published architecture becomes a package that computes the same.

Without these tests a user's weights would run with the wrong windows, order or classes, and no error would tell. One
architecture of each family runs always, with few filters; ``make test-recipes`` runs all at their published size.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg import load_model, run
from medseg.errors import ModelError
from medseg.library.importer import ImportOptions, Recipe, find_recipe, import_model, onnx_tidy, recipes
from medseg.library.importer.environment import clean_environment
from medseg.monitor import Monitor
from medseg.phantoms import chest_xray, flair, head_ct, swi
from medseg.pipeline.preprocess import prepare
from support import keras_environment

PUBLISHED = {
    "wmh": ["unet", "attention-unet", "deeplabv3plus", "transunet"],
    "ich": ["vgg16", "resnet50", "inceptionv3", "mobilenetv2", "xception", "efficientnetb0", "efficientnetb2",
            "efficientnetb3", "resnet50-224", "efficientnetb4"],
    "tb": ["vgg16", "resnet50", "inceptionresnetv2"],
    "lungs": ["unet", "resunet"],
}  # fmt: skip
IDS = [
    *(f"wmh-{a}-{s}" for a in PUBLISHED["wmh"] for s in ("binary", "3class")),
    *(f"{system}-{a}" for system in ("lungs", "tb", "ich") for a in PUBLISHED[system]),
    "cmb-unet3d",
]
MESHNETS = [
    "meshnet-gwm-light", "meshnet-gwm", "meshnet-brain-mask", "meshnet-subcortical-18", "meshnet-50", "meshnet-104",
]  # fmt: skip
SETS = ["totalsegmentator-total", "totalsegmentator-total-3mm"]
# Authors of the haemorrhage systems saved weights without layers.
WEIGHTS_ONLY = [id for id in IDS if id.startswith("ich-")]
# One process makes the networks for all of them.
pytestmark = pytest.mark.xdist_group("keras")
FAMILIES = [
    "wmh-deeplabv3plus-3class",
    "wmh-transunet-binary",
    "lungs-resunet",
    "tb-vgg16",
    "cmb-unet3d",
    "ich-mobilenetv2",
]
EXACT = {
    "wmh-unet-3class": 31_030_723, "wmh-attention-unet-3class": 31_380_327, "lungs-unet": 7_759_521,
    "lungs-resunet": 4_722_737,
}  # fmt: skip
ABOUT = {"wmh-deeplabv3plus-3class": 40.3e6, "wmh-transunet-3class": 38.7e6}


def steps(id: str) -> list[dict[str, Any]]:
    return [s.model_dump(exclude_unset=True) for s in find_recipe(id).parsed().preprocessing]


def test_every_published_model_has_a_recipe() -> None:
    assert len(IDS) == 24 and set(recipes()) == {*IDS, *MESHNETS, *SETS}


@pytest.mark.parametrize("id", [*IDS, *MESHNETS, *SETS])
def test_a_recipe_is_complete(id: str) -> None:
    """A user must see where it is from, what it is for, what it cannot do and what was published."""
    recipe = find_recipe(id)
    manifest = recipe.parsed()
    card = manifest.card
    assert manifest.source and manifest.license and card.description and card.intended_use and card.limitations
    assert card.citation and recipe.obtain and recipe.checked
    assert card.figures or recipe.system in ("brain", "body")
    assert "weights" not in recipe.manifest
    path = next((f / f"{id}.json" for f in _folders() if (f / f"{id}.json").is_file()), None)
    assert path is not None, "the file is called as its id"


def _folders() -> list[Path]:
    from medseg.library.importer.recipe import recipe_folders

    return recipe_folders()


@pytest.mark.parametrize("id", [i for i in IDS if i.startswith("wmh-")])
def test_wmh_chain_is_the_contract(id: str, repository: Path) -> None:
    exact = json.loads((repository / "Testing/real_models/wmh_preprocessing.json").read_text())
    assert steps(id) == exact
    manifest = find_recipe(id).parsed()
    three = id.endswith("3class")
    assert [(c.value, c.name) for c in manifest.classes] == (
        [(1, "Normal WMH"), (2, "Abnormal WMH")] if three else [(1, "Abnormal WMH")]
    )
    assert manifest.output.activation == ("softmax" if three else "sigmoid") and manifest.output.layout == "NHWC"
    assert manifest.classes[-1].threshold == 0.5 and manifest.inference.plane == "axial"
    cleaning = [s.model_dump(exclude_unset=True) for s in manifest.postprocessing]
    small = {"step": "remove_small", "segments": ["Abnormal WMH"], "voxels": 5, "connectivity": 4}
    assert cleaning == [small, {"step": "opening", "segments": ["Abnormal WMH"], "shape": "disk", "radius": 2}, small]


@pytest.mark.parametrize(
    ("arch", "binary", "three"),
    [
        ("unet", (".497", "29.8", ".334", ".968"), (".768", "27.4", ".759", ".777")),
        ("attention-unet", (".486", "31.4", ".324", ".977"), (".740", "28.2", ".711", ".771")),
        ("deeplabv3plus", (".374", "32.3", ".231", ".984"), (".586", "32.1", ".464", ".796")),
        ("transunet", (".510", "29.4", ".346", ".965"), (".700", "27.5", ".603", ".834")),
    ],
)
def test_wmh_figures(arch: str, binary: tuple[str, ...], three: tuple[str, ...]) -> None:
    for scenario, figures in (("binary", binary), ("3class", three)):
        card = find_recipe(f"wmh-{arch}-{scenario}").parsed().card
        found = [card.figures[k].split()[0] for k in ("Dice", "HD95", "precision", "recall")]
        assert tuple(found) == figures


@pytest.mark.parametrize("id", [i for i in IDS if i.startswith("ich-")])
def test_haemorrhage_chain_is_the_contract(id: str) -> None:
    """Window before or after the resize, and the 12-bit threshold, differ between the two systems."""
    kinds = [s["step"] for s in steps(id)]
    native = id == "ich-resnet50-224"
    assert kinds == ["twelve_bit_fix", *(["window", "resize"] if native else ["resize", "window"])]
    by_kind = {s["step"]: s for s in steps(id)}
    assert by_kind["twelve_bit_fix"]["intercept_above"] == (-1000 if native else -100)
    size = 224 if native else 256
    assert by_kind["resize"]["size"] == (size, size, None) and by_kind["resize"]["interpolation"] == "linear"
    assert [(w["level"], w["width"]) for w in by_kind["window"]["windows"]] == [(40, 80), (80, 200), (40, 380)]
    manifest = find_recipe(id).parsed()
    assert [c.name for c in manifest.classes] == [
        "any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural",
    ]  # fmt: skip
    assert manifest.output.activation == "sigmoid" and manifest.inference.plane == "acquisition"


def test_windows_are_the_contract_s_formulas() -> None:
    """brain clip[0,80]/80, subdural (clip[-20,180]+20)/200, soft tissue (clip[-150,230]+150)/380."""
    phantom = head_ct(seed=2).volume
    manifest = find_recipe("ich-vgg16").parsed()
    without = manifest.model_copy(update={"preprocessing": manifest.preprocessing[:2]})
    hu = prepare(without, [phantom]).array[0]
    found = prepare(manifest, [phantom]).array
    wanted = [np.clip(hu, 0, 80) / 80, (np.clip(hu, -20, 180) + 20) / 200, (np.clip(hu, -150, 230) + 150) / 380]
    assert np.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("id", ["lungs-unet", "lungs-resunet"])
def test_lungs_chain_is_the_contract(id: str) -> None:
    assert [s["step"] for s in steps(id)] == ["resize", "histogram_equalise", "affine"]
    values = find_recipe(id).parsed().preprocessing[-1]
    x = np.arange(256.0)
    assert np.allclose(x * values.scale + values.offset, (x - 127) / 127)
    assert not find_recipe(id).parsed().preprocessing[0].keep_aspect


@pytest.mark.parametrize(
    ("id", "style"), [("tb-vgg16", "caffe"), ("tb-resnet50", "caffe"), ("tb-inceptionresnetv2", "tf")]
)
def test_tuberculosis_chain_is_the_contract(id: str, style: str) -> None:
    assert steps(id)[1:] == [{"step": "to_rgb"}, {"step": "imagenet", "style": style}]
    assert steps(id)[0]["size"] == (224, 224, None)
    recipe = find_recipe(id)
    assert [(c.value, c.name) for c in recipe.parsed().classes] == [(1, "Negative"), (2, "Positive")]
    assert recipe.keras.backbone is not None
    assert any(text.startswith("Inferred:") for text in recipe.parsed().card.limitations)


def test_microbleed_chain_is_the_contract() -> None:
    manifest = find_recipe("cmb-unet3d").parsed()
    assert [s["step"] for s in steps("cmb-unet3d")] == [
        "apply_mask", "crop_to_mask", "orient", "resample", "crop_or_pad", "zscore",
    ]  # fmt: skip
    _, _, orient, resample, pad, score = manifest.preprocessing
    assert sorted(orient.code) == sorted("RAS") and resample.spacing == (0.5, 0.5, 0.5)
    assert pad.size == (400, 400, 400) and score.scope == "volume" and score.above is None
    assert manifest.inference.patch == (96, 96, 96) and manifest.inference.overlap == 0.4
    (keep,) = manifest.postprocessing
    lists = manifest.choices[keep.labels]
    names = {c["value"]: c["name"] for c in find_recipe("meshnet-104").manifest["classes"]}
    published, command = ({names[v] for v in lists.options[o]} for o in ("published", "command"))
    assert lists.default == "published" and keep.connectivity == 6 and keep.minimum_voxels == 1
    assert published - command == {"Brain-Stem"} and command - published == {"Left-VentralDC", "Right-VentralDC"}
    outside = {"Left-Lateral-Ventricle", "Right-Inf-Lat-Vent", "3rd-Ventricle", "4th-Ventricle", "CSF"}
    assert not outside & (published | command)


def test_meshnet_recipes_are_the_tested_manifests(repository: Path) -> None:
    """What the real models were compared with is what a user gets."""
    for id in MESHNETS[:4]:
        real = json.loads((repository / f"Testing/real_models/{id}.json").read_text())
        mine = find_recipe(id).template()
        for field in ("preprocessing", "inputs", "inference", "output", "classes", "postprocessing"):
            assert mine[field] == real[field], (id, field)


# -- networks -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    """(small) -> (folder of saved architectures, parameters by id), built once."""
    built: dict[bool, tuple[Path, dict[str, int]]] = {}

    def make(small: bool) -> tuple[Path, dict[str, int]]:
        if small not in built:
            folder = tmp_path_factory.mktemp("architectures")
            ids = FAMILIES if small else IDS
            counts = keras_environment.build(folder, *[i for i in ids if i not in WEIGHTS_ONLY], small=small)
            counts |= keras_environment.build(folder, *[i for i in ids if i in WEIGHTS_ONLY], weights_only=True)
            built[small] = folder, counts
        return built[small]

    return make


def imported(id: str, folder: Path, target: Path) -> tuple[Path, list[str], dict[str, Any]]:
    monitor = Monitor()
    backbone = folder / f"{id}-backbone.h5"
    options = ImportOptions(
        environment=keras_environment.keras_python(), backbone=backbone if backbone.exists() else None
    )
    package = import_model(folder / f"{id}.h5", id, target / id, monitor=monitor, options=options)
    return package, monitor.warnings, json.loads((package / "import.json").read_text())


def check_network(id: str, folder: Path, counts: dict[str, int], target: Path) -> Path:
    """Imported, equal to Keras, and its outputs are not all alike (equal constants would prove nothing)."""
    package, warnings, record = imported(id, folder, target)
    assert record["parameters"] == counts[id]
    assert record["largest_difference"] <= 1e-4, record
    recipe: Recipe = find_recipe(id)
    if recipe.parameters is not None and counts[id] == recipe.parameters:
        assert not any("parameters" in text for text in warnings)
    model = load_model(package)
    proto = onnx_tidy.onnx.load(str(model.onnx_path))
    (output,) = onnx_tidy.session(proto).run(None, onnx_tidy.random_feed(proto))
    assert output.std() > 1e-3 and output.min() >= 0 and output.max() <= 1
    return package


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("id", FAMILIES)
def test_one_of_each_family_is_imported_and_runs(id: str, trained: Any, tmp_path: Path, monkeypatch: Any) -> None:
    folder, counts = trained(True)
    package = check_network(id, folder, counts, tmp_path)
    end_to_end(id, package, tmp_path, monkeypatch, quick=True)


@pytest.mark.recipes
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("id", IDS)
def test_every_recipe_is_imported_and_runs(id: str, trained: Any, tmp_path: Path, monkeypatch: Any) -> None:
    folder, counts = trained(False)
    if id in EXACT:
        assert counts[id] == EXACT[id] == find_recipe(id).parameters
    if id in ABOUT:
        assert counts[id] == pytest.approx(ABOUT[id], rel=0.005)
    package = check_network(id, folder, counts, tmp_path)
    end_to_end(id, package, tmp_path, monkeypatch, quick=True)


def end_to_end(id: str, package: Path, folder: Path, monkeypatch: Any, *, quick: bool) -> None:
    """A phantom through the package: the tables and layers that its users look at are there, on the phantom's grid."""
    if id.startswith("wmh"):
        volume = flair(seed=3, size=(256, 256, 8)).volume
        result = run(package, volume, device="cpu")
        assert {c.name for layer in result.layers for c in layer.classes} >= {"Abnormal WMH"}
        assert all(layer.labels.shape == volume.array.shape for layer in result.layers)
    elif id.startswith(("lungs", "tb")):
        film = chest_xray(seed=3).volume
        result = run(package, film, device="cpu")
        if id.startswith("lungs"):
            assert result.layers[0].labels.shape == film.array.shape and "areas" in result.tables
        else:
            row = result.tables["slices"]
            assert row.column("Negative")[0] + row.column("Positive")[0] == pytest.approx(1, abs=1e-4)
    elif id.startswith("ich"):
        volume = head_ct(seed=3).volume
        result = run(package, volume, device="cpu")
        scores = np.array([result.tables["slices"].column(c) for c in ("any", "epidural", "subdural")])
        assert scores.shape == (3, volume.array.shape[0]) and 0 <= scores.min() < scores.max() <= 1
        assert "rsna" in result.tables
    else:
        run_microbleeds(package, folder, monkeypatch, size=128 if quick else 400)


def run_microbleeds(package: Path, folder: Path, monkeypatch: Any, size: int) -> None:
    """With stand-ins for the two required models; ``size``: to which the brain is padded (400 takes many minutes)."""
    from support.packages import manifest, network

    stand_ins = folder / "stand-ins"
    for id, classes in (("meshnet-brain-mask", ["Brain"]), ("meshnet-104", ["ctx-lh-insula"])):
        target = stand_ins / id
        target.mkdir(parents=True)
        raw = manifest(id=id, classes=[{"value": n + 1, "name": c} for n, c in enumerate(classes)])
        raw["output"] = {"tensor": "y", "layout": "NCDHW", "activation": "sigmoid", "logits": True}
        (target / "model.onnx").write_bytes(network(classes=1).SerializeToString())
        (target / "manifest.json").write_text(json.dumps(raw))
    monkeypatch.setenv("MEDSEG_MODELS", str(stand_ins))
    raw = json.loads((package / "manifest.json").read_text())
    assert raw["preprocessing"][4]["size"] == [400, 400, 400]
    raw["preprocessing"][4]["size"] = [size] * 3
    (package / "manifest.json").write_text(json.dumps(raw))
    volume = swi(seed=3).volume
    result = run(package, volume, device="cpu")
    assert result.layers[0].labels.shape == volume.array.shape
    assert {"lesions", "counts"} <= set(result.tables)


# -- faults -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(1500)
def test_a_lambda_that_the_recipe_does_not_know_is_refused(trained: Any, tmp_path: Path) -> None:
    """Its bytecode would be somebody else's program on the user's computer."""
    folder, _ = trained(True)
    with pytest.raises(ModelError, match=r"Lambda layer '(aspp_gap_resize|match_dims)' holds code, which is not run"):
        import_model(
            folder / "wmh-deeplabv3plus-3class.h5", "wmh-unet-3class", tmp_path / "out",
            options=ImportOptions(environment=keras_environment.keras_python()),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.timeout(1500)
def test_a_cut_short_keras_file_is_refused_and_leaves_nothing(trained: Any, tmp_path: Path) -> None:
    folder, _ = trained(True)
    data = (folder / "lungs-resunet.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="damaged or cut short"):
        import_model(
            tmp_path / "cut.h5", "lungs-resunet", tmp_path / "out",
            options=ImportOptions(environment=keras_environment.keras_python()),
        )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.h5"]


KERAS_3 = """
import sys, keras
K = keras.layers
image = K.Input((256, 256, 1))
x = K.BatchNormalization()(K.Conv2D(4, 3, padding="same", activation="relu", kernel_regularizer="l2")(image))
def model(y):
    made = keras.Model(image, K.Conv2D(1, 1, activation="sigmoid")(y))
    made.compile("adam", "mse")
    return made
model(K.Add()([x, x])).save(sys.argv[1] + "/plain.h5")
model(x * 2.0 + x).save(sys.argv[1] + "/plain.keras")
model(K.Lambda(lambda t: t, name="same")(x)).save(sys.argv[1] + "/lambda.keras")
"""


@pytest.mark.timeout(1500)
def test_files_of_keras_3_are_read_too(tmp_path: Path) -> None:
    """Whoever trains today has Keras 3, whose files look different from those of the published models."""
    python = keras_environment.keras_python()
    done = subprocess.run(
        [str(python), "-I", "-c", KERAS_3, str(tmp_path)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    recipe = find_recipe("lungs-unet")
    explained = recipe.model_copy(
        update={"keras": recipe.keras.model_copy(update={"operations": {"same": "identity"}})}
    )
    for name, chosen in (("plain.h5", recipe), ("plain.keras", recipe), ("lambda.keras", explained)):
        package = import_model(
            tmp_path / name, chosen, tmp_path / f"package-{name}", options=ImportOptions(environment=python)
        )
        record = json.loads((package / "import.json").read_text())
        assert record["largest_difference"] <= 1e-5 and record["framework"].startswith("Keras 3")
    with pytest.raises(ModelError, match="'same' holds code"):
        import_model(tmp_path / "lambda.keras", recipe, tmp_path / "no", options=ImportOptions(environment=python))
