"""Error consistency with people, from the CSV files of model-vs-human to the score, against scikit-learn's kappa."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from data_prep.datasets.humans import short_name
from luab_jax.data.label_tables import SIXTEEN
from luab_jax.errors import ExitCode
from luab_jax.evaluation.columns import as_kept, of_kept
from luab_jax.evaluation.decisions import Decisions, category_scores
from luab_jax.evaluation.scores.shape_bias import human_consistency
from tests.evaluation.test_more_suites import evaluated, logits_of, picture, prepare

CATEGORIES = list(SIXTEEN)
HEAD = "subj,Session,trial,rt,object_response,category,condition,imagename"
Capture = pytest.CaptureFixture[str]


def decision(seed: int) -> str:
    return CATEGORIES[int(category_scores(logits_of(seed)[None])[0].argmax())]


def write_answers(folder: Path, subject: str, rows: list[tuple[str, str, str]]) -> None:
    """`rows`: response, category, image."""
    folder.mkdir(exist_ok=True)
    lines = [
        f"{subject},1,{i},0.7,{said},{shape},0,{i:04d}_cue_{name}" for i, (said, shape, name) in enumerate(rows, 1)
    ]
    (folder / f"cue-conflict_{subject}_session_1.csv").write_text("\n".join([HEAD, *lines]))


def test_error_consistency_is_the_mean_kappa_over_subjects(tmp_path: Path) -> None:
    rng, images = np.random.default_rng(0), []
    for i in range(60):
        found = decision(i)
        others = [c for c in CATEGORIES if c != found]
        shape = found if i % 2 else others[int(rng.integers(15))]
        name = f"{shape}{i}-{others[int(rng.integers(15))]}1.png"
        picture(tmp_path / "cue-conflict", f"{shape}/{name}", i)
        images.append((name, shape, found == shape))
    people: dict[str, dict[str, bool]] = {}
    for subject in ("subject-01", "subject-02", "subject-03"):
        rows = []
        for name, shape, _ in images[: 60 if subject != "subject-03" else 45]:
            said = shape if rng.random() < 0.6 else ("na", CATEGORIES[int(rng.integers(16))])[int(rng.integers(2))]
            rows.append((said, shape, name))
            people.setdefault(subject, {})[name] = said == shape
        write_answers(tmp_path / "humans", subject, rows)
    (tmp_path / "humans" / "cue-conflict_resnet50_session-1.csv").write_text(HEAD)  # a model's
    source, flags = tmp_path / "cue-conflict", (f"--humans={tmp_path / 'humans'}",)
    assert prepare("cue_conflict", source, tmp_path / "data", *flags) == ExitCode.DONE
    result = evaluated(tmp_path / "data", "cue_conflict")
    kappas = [
        cohen_kappa_score([right for name, _, right in images if name in of], [of[n] for n, _, _ in images if n in of])
        for of in people.values()
    ]
    assert result["error_consistency"] == pytest.approx(np.mean(kappas)) and result["n_subjects"] == 3
    low, high = result.scores["error_consistency"].interval
    assert low < result["error_consistency"] < high
    pairs = [
        cohen_kappa_score([a[n] for n in a if n in b], [b[n] for n in a if n in b])
        for i, a in enumerate(people.values())
        for b in list(people.values())[i + 1 :]
    ]
    assert result["error_consistency_of_humans"] == pytest.approx(np.mean(pairs))
    assert prepare("cue_conflict", source, tmp_path / "other") == ExitCode.DONE
    assert "error_consistency" not in evaluated(tmp_path / "other", "cue_conflict")


def test_the_interval_is_by_leaving_out_each_image() -> None:
    rng = np.random.default_rng(1)
    humans = ["+".join(f"s{k}={CATEGORIES[int(rng.integers(2))]}" for k in range(2) if rng.random() < 0.9)
              for _ in range(40)]  # fmt: skip
    drawn = [rng.integers(2, size=40).astype(np.int32) for _ in range(3)]
    whole = Decisions(*drawn, [f"{i}" for i in range(40)], humans)
    sample = human_consistency(whole)["error_consistency"].sample.values

    def without(i: int) -> float:
        keep = np.arange(40) != i
        kept = [column[keep] for column in drawn]
        left = Decisions(*kept, [n for n, k in zip(whole.images, keep, strict=True) if k],
                         [h for h, k in zip(humans, keep, strict=True) if k])  # fmt: skip
        return float(human_consistency(left)["error_consistency"])

    found = np.asarray([without(i) for i in range(40)])
    value = float(human_consistency(whole)["error_consistency"])
    assert np.allclose(sample, value + 39 * (found.mean() - found))
    again = as_kept(of_kept(whole), None)
    assert isinstance(again, Decisions) and again.humans == humans and again.images == whole.images


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("0001_cue_dog10-bird2.png", "dog10-bird2.png"),
        ("airplane1-bicycle2.png", "airplane1-bicycle2.png"),
        ("0000_cl_s01_bw_boat_40_n02951358_5952.JPEG", "n02951358_5952.JPEG"),
    ],
)
def test_images_are_known_by_the_end_of_their_names(name: str, short: str) -> None:
    assert short_name(name) == short


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}\nsubject-01,1,1,0,zebra,cat,0,cat1-dog1.png", "1.csv:2: object_response is 'zebra', expected one"),
        (f"{HEAD}\nsubject-01,1,1,0,cat,cat,0,cow1-dog1.png", "none of its 1 images is cat1-dog1.png"),
        ("subj,response\na,b", "cannot be read as answers of a subject ('object_response'); expected subj,"),
        (f"{HEAD}\ns=1,1,1,0,cat,cat,0,cat1-dog1.png", "1.csv:2: subj is 's=1'; a name without + and = is expected"),
        (
            f"{HEAD}\nsubject-01,1,1,0,cat,cat,0,cat1-dog1.png\nsubject-01,1,2,0,dog,cat,0,cat1-dog1.png",
            "1.csv:3: subject-01 answered cat1-dog1.png before, otherwise",
        ),
        (
            f"{HEAD}\nsubject-01,1,1,0,cat,cat",
            "1.csv:2: the row ends before its imagename; take a whole copy of the file",
        ),
        (None, "holds no file such as cue-conflict_subject-01_session_1.csv"),
    ],
)
def test_answers_that_are_refused(text: str | None, message: str, tmp_path: Path, capsys: Capture) -> None:
    picture(tmp_path / "cue-conflict", "cat/cat1-dog1.png", 0)
    (tmp_path / "humans").mkdir()
    if text is not None:
        (tmp_path / "humans" / "cue-conflict_subject-01_session_1.csv").write_text(text)
    flags = (f"--humans={tmp_path / 'humans'}",)
    assert prepare("cue_conflict", tmp_path / "cue-conflict", tmp_path / "data", *flags) == ExitCode.FAILED
    assert message in capsys.readouterr().err
