"""Published suites beyond the paper's, from their archives' layout to their scores, against loops and libraries."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from data_prep.__main__ import main
from data_prep.datasets.suites import C_BAR, THREE_D
from luab_jax.api import load, run_suites
from luab_jax.data.class_lists import imagenet
from luab_jax.data.dataset import open_split, read_manifest
from luab_jax.data.features import Example
from luab_jax.data.label_tables import FACTORS, IMAGENET_D, IMAGENET_O, IMAGENET_R, SIXTEEN
from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.data.watermark import read_font
from luab_jax.errors import DataError, ExitCode, UserError
from luab_jax.evaluate import main as evaluate
from luab_jax.evaluation.answers import ARGMAX, Answer, Answers, Doubt
from luab_jax.evaluation.decisions import category_scores, decide, texture_of
from luab_jax.evaluation.scores.detection import detection
from luab_jax.evaluation.scores.effective_robustness import effective_robustness, line, published
from luab_jax.evaluation.scores.shape_bias import error_consistency, shape_bias
from luab_jax.evaluation.scores.watermark import CARTON, watermark_gap
from luab_jax.results.format import Suite as SuiteResult
from luab_jax.results.read import read_results
from tests.data.test_watermark import pillows_own
from tests.evaluation.drawn import guesses, predictions, softmax, truth

IDS = imagenet().ids
SIDE = 224
PROJECTION = np.random.default_rng(7).normal(size=(12, 1000)).astype(np.float32)
Capture = pytest.CaptureFixture[str]


def model(images: np.ndarray) -> np.ndarray:
    """1,000 logits from the mean colours of the quarters of an image."""
    half = images.shape[1] // 2
    quarters = [images[:, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    features = np.concatenate([quarter.mean(axis=(1, 2)) for quarter in quarters], axis=1)
    return (features / 64 - 2).astype(np.float32) @ PROJECTION


def network() -> tuple[Callable[[np.ndarray], np.ndarray], Preprocessing]:
    """As `--checkpoint=python:` names it; images are cut as `data_prep suite imagenet_w` cuts them."""
    return model, Preprocessing(image_size=SIDE, resize_side=256, filter=ResizeFilter.BILINEAR)


def quarters(seed: int) -> np.ndarray:
    """Flat quarters of random colours."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    for i, colour in enumerate(np.random.default_rng(seed).integers(0, 256, (4, 3))):
        pixels[112 * (i // 2) : 112 * (i // 2 + 1), 112 * (i % 2) : 112 * (i % 2 + 1)] = colour
    return pixels


def logits_of(seed: int) -> np.ndarray:
    return model(quarters(seed)[None])[0]


def picture(root: Path, name: str, seed: int) -> None:
    """As a lossless file."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(quarters(seed)).save(path, "PNG", compress_level=1)


def prepare(suite: str, source: Path, out: Path, *flags: str) -> int:
    return main(["suite", suite, f"--source={source}", f"--out={out}", "--workers=1", *flags])


def evaluated(data: Path, suite: str):  # type: ignore[no-untyped-def]
    stored = Preprocessing(image_size=SIDE, resize_side=None)
    return run_suites(model, data, suite, preprocessing=stored, name="drawn")[suite]


def test_cue_conflict(tmp_path: Path) -> None:
    categories, rng, rows = list(SIXTEEN), np.random.default_rng(0), []
    for i in range(60):
        shape, texture = (categories[k] for k in rng.integers(16, size=2))
        pixels_seed = 100 + i
        logits = logits_of(pixels_seed)
        of_category = {c: np.mean([softmax(logits.tolist())[k] for k in SIXTEEN[c]]) for c in categories}
        decision = max(of_category, key=lambda c: of_category[c])
        shape, texture = [(decision, texture), (shape, decision), (shape, texture)][i % 3]
        picture(tmp_path / "cue-conflict", f"{shape}/{shape}{i}-{texture}{i % 4}.png", pixels_seed)
        rows.append((decision, shape, texture))
    assert prepare("cue_conflict", tmp_path / "cue-conflict", tmp_path / "data") == ExitCode.DONE
    result = evaluated(tmp_path / "data", "cue_conflict")
    conflicts = [row for row in rows if row[1] != row[2]]
    by_shape = sum(d == s for d, s, _ in conflicts)
    by_texture = sum(d == t for d, _, t in conflicts)
    assert 0 < by_shape < by_shape + by_texture < len(conflicts)
    assert result["shape_bias"] == pytest.approx(by_shape / (by_shape + by_texture))
    assert result["shape"] == pytest.approx(by_shape / len(conflicts)) and result["n"] == 60
    assert result["n_without_conflict"] == 60 - len(conflicts) and result.data.partial


def test_a_category_is_scored_by_the_mean_of_its_classes() -> None:
    """Not by their sum: dogs have 110 classes, and bears four."""
    logits = np.zeros((1, 1000), np.float32)
    logits[0, list(SIXTEEN["bear"])] = 1
    assert list(SIXTEEN)[category_scores(logits)[0].argmax()] == "bear"
    assert sum(map(len, SIXTEEN.values())) == 207 and len({i for of in SIXTEEN.values() for i in of}) == 207


@pytest.mark.parametrize(
    ("name", "texture"),
    [("cat7-elephant2.png", "elephant"), ("0012_cue_dog10-bird2.png", "bird"), ("a-oven.png", "oven")],
)
def test_the_texture_is_the_last_word_of_the_name(name: str, texture: str) -> None:
    assert list(SIXTEEN)[texture_of(truth(0, file_name=f"cat/{name}"))] == texture


def test_names_and_decisions_without_a_texture_are_refused() -> None:
    with pytest.raises(DataError, match="its name tells no texture"):
        texture_of(truth(0, file_name="cat/cat1.png"))
    knife = np.zeros((1, 1000), np.float32)
    knife[0, 499] = 30
    with pytest.raises(DataError, match="no decision is for the shape or the texture"):
        shape_bias(decide(predictions(knife, [truth(0, file_name="bear/bear1-cat1.png")])))


def test_error_consistency_is_cohens_kappa_of_who_is_right() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(500) < 0.7
    second = np.where(rng.random(500) < 0.5, first, rng.random(500) < 0.4)
    assert error_consistency(first, second) == pytest.approx(cohen_kappa_score(first, second))
    assert error_consistency(first, first) == 1 and error_consistency(np.ones(3, bool), np.ones(3, bool)) == 1
    with pytest.raises(DataError, match="of the same images"):
        error_consistency(first[:0], second[:0])


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """Forty validation images and their logits by name; they lie in the folder of their answer, or of another class."""
    root = tmp_path_factory.mktemp("val")
    logits = {}
    for i in range(1, 41):
        of_image = logits_of(i)
        label = int(of_image.argmax()) if i % 3 else int(np.argsort(of_image)[-2])
        logits[f"{IDS[label]}/ILSVRC2012_val_{i:08d}.JPEG"] = of_image
        picture(root / "ILSVRC2012_img_val", f"{IDS[label]}/ILSVRC2012_val_{i:08d}.JPEG", i)
    return root / "ILSVRC2012_img_val", logits


def test_imagenet_x(val: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    source, logits = val
    rng = np.random.default_rng(0)
    factors = {name: {f: int(rng.random() < 0.3) for f in FACTORS} for name in logits}
    annotated = list(logits)[:36]
    lines = [json.dumps({"file_name": n.split("/")[1], "class": 0, **factors[n], "one_word": "x"}) for n in annotated]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    (tmp_path / "p.csv").write_text(f"file_name\n{annotated[0].split('/')[1]}\n")
    flags = (f"--factors={tmp_path / 'x.jsonl'}", f"--prototypes={tmp_path / 'p.csv'}")
    assert prepare("imagenet_x", source, tmp_path / "data", *flags) == ExitCode.DONE
    counts = read_manifest(tmp_path / "data" / "imagenet_x", "val").counts
    assert (counts["prototypes_left_out"], counts["images_without_annotation_left_out"]) == (1, 4)
    result = evaluated(tmp_path / "data", "imagenet_x")
    right = {n: IDS[int(logits[n].argmax())] == n.split("/")[0] for n in annotated[1:]}
    errors = {f: 1 - np.mean([right[n] for n in right if factors[n][f]]) for f in FACTORS}
    of_all = 1 - np.mean(list(right.values()))
    assert result["n"] == 35 and result["top1"] == pytest.approx(1 - of_all)
    assert result["worst_factor"] == pytest.approx(1 - max(errors.values()))
    for factor in FACTORS:
        assert result[f"error_ratio_{factor}"] == pytest.approx(errors[factor] / of_all)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"file_name": "a.JPEG"}', "x.jsonl:1: no line of ImageNet-X's annotations ('pose')"),
        (
            json.dumps({"file_name": "a", **dict.fromkeys(FACTORS, 2)}),
            "1: a has a factor that is neither 0 nor 1",
        ),
        (json.dumps({"file_name": "a", **dict.fromkeys(FACTORS, 0)}), "none of its 1 images is ILSVRC2012_val_"),
        ("a\udc80", "cannot be read as ImageNet-X's annotations (not a text in UTF-8: byte 1)"),
    ],
)
def test_annotations_that_are_refused(
    text: str, message: str, val: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "x.jsonl").write_bytes(text.encode(errors="surrogateescape"))
    flags = (f"--factors={tmp_path / 'x.jsonl'}",)
    assert prepare("imagenet_x", val[0], tmp_path / "data", *flags) == ExitCode.FAILED
    assert message in capsys.readouterr().err
    assert prepare("imagenet_x", val[0], tmp_path / "data") == ExitCode.FAILED
    assert "give its annotations with --factors" in capsys.readouterr().err


@pytest.mark.parametrize(("suite", "kinds"), [("imagenet_c_bar", C_BAR), ("imagenet_3dcc", THREE_D)])
def test_corruptions_of_others(suite: str, kinds: tuple[str, ...], tmp_path: Path) -> None:
    right: dict[str, list[bool]] = {}
    for k, kind in enumerate(kinds):
        for severity in range(1, 6):
            for i in range(2):
                seed = 1000 * k + 10 * severity + i
                logits = logits_of(seed)
                label = int(np.argsort(logits)[-1 - (seed % 3 == 0)])
                picture(tmp_path / "archive", f"{kind}/{severity}/{IDS[label]}/ILSVRC2012_val_{i}.png", seed)
                right.setdefault(kind, []).append(label == int(logits.argmax()))
    assert prepare(suite, tmp_path / "archive", tmp_path / "data") == ExitCode.DONE
    result = evaluated(tmp_path / "data", suite)
    assert result["top1"] == pytest.approx(np.mean([np.mean(of) for of in right.values()]))
    assert result.details["kinds"] == pytest.approx({kind: np.mean(of) for kind, of in right.items()})
    assert len(result.groups) == 5 * len(kinds)


def test_imagenet_d(tmp_path: Path) -> None:
    folder_of = {index: folder for folder, indices in IMAGENET_D.items() for index in indices}
    right: dict[str, list[bool]] = {}
    for a, attribute in enumerate(("background", "texture", "material")):
        for i in range(8 + a):
            logits = logits_of(100 * a + i)
            folder = folder_of.get(int(logits.argmax()), "pen") if i % 2 else list(IMAGENET_D)[i]
            picture(tmp_path / "ImageNet-D", f"{attribute}/{folder}/{i}.png", 100 * a + i)
            right.setdefault(attribute, []).append(int(logits.argmax()) in IMAGENET_D[folder])
    seed = next(s for s in range(2000, 6000) if int(logits_of(s).argmax()) in folder_of)
    folder = folder_of[int(logits_of(seed).argmax())]
    picture(tmp_path / "ImageNet-D", f"material/{folder}/right.png", seed)
    right["material"].append(True)
    assert prepare("imagenet_d", tmp_path / "ImageNet-D", tmp_path / "data") == ExitCode.DONE
    result = evaluated(tmp_path / "data", "imagenet_d")
    assert result["top1"] == pytest.approx(np.mean([r for of in right.values() for r in of])) and result["n"] == 28
    assert result["top1_texture"] == pytest.approx(np.mean(right["texture"])) and result["top1_material"] > 0
    assert len(IMAGENET_D) == 113 and len({i for of in IMAGENET_D.values() for i in of}) == 125


def test_imagenet_w(val: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, capsys: Capture) -> None:
    """Drawn with Pillow's own font, which has none of the characters, so that boxes stand for them."""
    font = ImageFont.truetype(io.BytesIO(pillows_own().data), 36)
    (tmp_path / "font.otf").write_bytes(pillows_own().data)
    source = val[0]
    flags = (f"--font={tmp_path / 'font.otf'}",)
    assert prepare("imagenet_w", source, tmp_path / "data", *flags) == ExitCode.DONE
    result = evaluated(tmp_path / "data", "imagenet_w")
    right: dict[str, list[bool]] = {"watermark": [], "clean": []}
    shape = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(shape).text((2.24, 89.6), "\u6377\u5f84" * 3, fill=255, font=font)
    alpha = np.asarray(shape, np.float64)[..., None] / 255 * (128 / 255)
    for split in right:
        opened = open_split(tmp_path / "data" / "imagenet_w", split)
        for example in (Example(opened.records[i]) for i in range(len(opened.records))):
            image = Image.open(source / example.file_name).convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
            expected = np.asarray(image.crop((16, 16, 240, 240)), np.float64)
            if split == "watermark":
                expected = expected * (1 - alpha) + 255 * alpha
            pixels = np.asarray(Image.open(io.BytesIO(example.image)), np.float64)
            assert np.abs(pixels - expected).max() <= 2  # of Pillow's whole numbers
            answer = int(model(pixels[None].astype(np.uint8))[0].argmax())
            right[split].append(IDS[answer] == example.file_name.split("/")[0])
    assert alpha.sum() > 100
    assert result["top1_clean"] == pytest.approx(np.mean(right["clean"]))
    assert result["in_w_gap"] == pytest.approx(np.mean(right["watermark"]) - np.mean(right["clean"]))
    assert "carton_gap" not in result and result.data.generated.startswith("by luab_jax 1, font ")
    drawn = watermarked(source, tmp_path)
    for name, entry in result.scores.items():
        assert (drawn[name], drawn.scores[name].interval) == (entry.value, entry.interval), name
    assert prepare("imagenet_w", source, tmp_path / "other") == ExitCode.FAILED
    assert "--font=SourceHanSerifSC-ExtraLight.otf" in capsys.readouterr().err
    (tmp_path / "no.otf").write_text("no font")
    assert prepare("imagenet_w", source, tmp_path / "other", f"--font={tmp_path / 'no.otf'}") == ExitCode.FAILED
    assert f"error: --font={tmp_path / 'no.otf'}: cannot be read as a font" in capsys.readouterr().err


def watermarked(source: Path, folder: Path) -> SuiteResult:
    """ImageNet-W drawn while it is evaluated."""
    data, name, kept, out = folder / "val", "imagenet_w_generated", folder / "kept", folder / "w.json"
    digest = read_font(folder / "font.otf").digest
    assert prepare("imagenet", source, data) == ExitCode.DONE

    def run(**options: Any) -> SuiteResult:
        return run_suites(load(checkpoint), data, name, out, **options)[name]

    checkpoint = "python:tests.evaluation.test_more_suites:network"
    with pytest.raises(UserError, match=r"has no font for it; give it with font='SourceHanSerifSC-ExtraLight\.otf'"):
        run()
    with pytest.raises(DataError, match=r"font='.*absent\.otf': cannot be read as a font"):
        run(font=folder / "absent.otf")
    asked = [f"--checkpoint={checkpoint}", f"--suites={name}", f"--data={data}", f"--out={out}"]
    assert evaluate([*asked, f"--font={folder / 'font.otf'}", f"--predictions={kept}"]) == ExitCode.DONE
    drawn = read_results(out).suites[name]
    assert drawn.details["font"] == digest and not drawn.data.generated
    saved = run_suites(f"predictions:{kept}", data, name)[name]  # logits of two bytes
    assert saved.details["font"] == digest and saved["in_w_gap"] == drawn["in_w_gap"]
    # A result of another font is no result.
    (folder / "other.otf").write_bytes((folder / "font.otf").read_bytes() + b" ")
    again = run(font=folder / "other.otf")
    assert again.details["font"] != digest and again["in_w_gap"] == drawn["in_w_gap"]
    return drawn


def test_what_the_watermark_does_to_cartons_is_told_apart() -> None:
    carton, other = IDS[CARTON], IDS[0]
    names = [f"{carton}/{i}.png" for i in range(4)] + [f"{other}/{i}.png" for i in range(6)]

    def answers(right: list[bool]) -> Answers:
        rank = np.where(right, 0, 3).astype(np.int32)
        return Answers(rank, np.ones(10, np.float32), [""] * 10, names)

    marked, clean = [True] * 4 + [False] * 5 + [True], [True, False, True, False] + [True] * 6
    scores = watermark_gap({"watermark": answers(marked), "clean": answers(clean)})
    assert scores["carton_gap"] == pytest.approx(0.5) and scores["in_w_gap"] == pytest.approx(0.5 - 0.8)


def test_effective_robustness_is_what_lies_above_the_line_of_the_table() -> None:
    table = published()
    assert {len(column) for column in table.values()} == {82}
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    x, y = logit(table["val"]), logit(table["imagenet_v2"])
    slope = np.sum((x - x.mean()) * (y - y.mean())) / np.sum((x - x.mean()) ** 2)
    assert line("imagenet_v2") == pytest.approx((slope, y.mean() - slope * x.mean()))

    labels = np.random.default_rng(0).integers(1000, size=400)
    given = {"val": guesses(0, [truth(int(c)) for c in labels], 1000, help=5.0),
             "imagenet_v2": guesses(1, [truth(int(c)) for c in labels], 1000, help=4.0)}  # fmt: skip
    of_r = guesses(2, [truth(IMAGENET_R[i % 200]) for i in range(300)], 1000, help=3.0)
    parts = {name: ARGMAX(part) for name, part in given.items()}
    parts |= {"imagenet_r": Answer(IMAGENET_R)(of_r), "val_of_imagenet_r": Answer(IMAGENET_R)(of_r)}
    scores = effective_robustness(parts)
    share = {name: np.mean(part.logits.argmax(axis=1) == part.labels) for name, part in given.items()}
    expected = 1 / (1 + np.exp(-(slope * logit(share["val"]) + y.mean() - slope * x.mean())))
    assert scores["imagenet_v2"] == pytest.approx(share["imagenet_v2"] - expected)
    low, high = scores["imagenet_v2"].interval
    assert low < scores["imagenet_v2"] < high and "imagenet_sketch" not in scores
    assert np.mean(scores["imagenet_v2"].sample.values) == pytest.approx(float(scores["imagenet_v2"]))
    assert scores["imagenet_r"] > 0  # no worse on the set than on val, which no model of the table is


def test_a_published_model_lies_near_the_line() -> None:
    """ResNet-50 of the table: 76.13 % on val and 63.27 on V2."""
    at = int(np.argmin(np.abs(published()["val"] - 0.7613)))
    assert published()["imagenet_v2"][at] == pytest.approx(line("imagenet_v2")(published()["val"][at]), abs=0.02)


def test_energy_and_the_largest_logit_detect_beside_the_softmax() -> None:
    rng = np.random.default_rng(0)
    subset = list(IMAGENET_O)
    out = predictions(rng.normal(size=(40, 1000)), [truth(-1)] * 40)
    known = predictions(rng.normal(size=(60, 1000)) * 1.5, [truth(subset[i]) for i in range(60)])
    scores = detection({"out": Doubt(IMAGENET_O)(out), "in": Doubt(IMAGENET_O)(known)})
    logits = np.concatenate([out.logits, known.logits])[:, subset].astype(np.float64)
    is_out = np.arange(100) < 40
    energy = -np.log(np.exp(logits).sum(axis=1))
    assert scores["auroc_energy"] == pytest.approx(roc_auc_score(is_out, energy))
    assert scores["auroc_max_logit"] == pytest.approx(roc_auc_score(is_out, -logits.max(axis=1)))
    assert scores["auroc_energy"] != pytest.approx(float(scores["auroc"]))
