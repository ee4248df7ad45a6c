"""The commands: what they refuse, and that one plan is not mixed with another."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.collect import commands, control
from data_prep.collect.project import open_project
from data_prep.collect.store import value
from data_prep.collect.tasks import read_task
from luab_jax.errors import ExitCode
from tests.data_prep.collect.conftest import NOW, App, Make, run, write_pictures

Capture = pytest.CaptureFixture[str]


def init(folder: Path, *arguments: str) -> int:
    return main(["collect", "init", str(folder), *arguments])


def pages(folder: Path) -> int:
    with open_project(folder).open_store() as store:
        return store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM task WHERE practice = 0"))


def test_init_plan_and_plan_again_with_more_pictures(pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "p"
    assert init(folder, "--task=imagenet", f"--images={pictures}") == ExitCode.DONE
    assert "password of the owner's page, shown only now: " in capsys.readouterr().out
    plan = ["collect", "plan", str(folder), "--page_size=6", "--controls=1+1", "--overlap=2"]
    assert main(plan) == ExitCode.DONE
    first = pages(folder)
    assert main(plan) == ExitCode.DONE and pages(folder) == first, "nothing new, nothing planned"
    (pictures / "cat" / "new.png").write_bytes((pictures / "cat" / "cat_3.jpg").read_bytes())
    assert main(plan) == ExitCode.DONE and pages(folder) == first + 1
    assert main([*plan, "--overlap=5"]) == ExitCode.DONE
    with open_project(folder).open_store() as store:
        assert store.read(lambda tx: tx.rows("SELECT DISTINCT overlap FROM task WHERE practice = 0")) == [(5,)]


def test_plan_again_keeps_what_is_not_given(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    assert main(["collect", "init", str(folder), "--task=imagenet", f"--images={pictures}"]) == ExitCode.DONE
    plan = ["collect", "plan", str(folder)]
    assert main([*plan, "--page_size=6", "--controls=1+1", "--overlap=2"]) == ExitCode.DONE

    def planned() -> tuple[int, set[int]]:
        with open_project(folder).open_store() as store:
            rows = store.read(lambda tx: tx.rows("SELECT overlap FROM task WHERE practice = 0"))
        return len(rows), {overlap for (overlap,) in rows}

    number, overlaps = planned()
    assert overlaps == {2}
    (pictures / "cat" / "new.png").write_bytes((pictures / "cat" / "cat_3.jpg").read_bytes())
    assert main(plan) == ExitCode.DONE
    assert planned() == (number + 1, {2}), "the new page, too"
    with open_project(folder).open_store() as store:
        control.set_overlap(store, 4, NOW)
    assert main(plan) == ExitCode.DONE and planned() == (number + 1, {4}), "raised on the owner's page"
    assert main([*plan, "--overlap=1"]) == ExitCode.DONE and planned() == (number + 1, {1})


def test_another_plan_is_refused_once_annotators_have_begun(make_project: Make, capsys: Capture) -> None:
    project, store = make_project()

    async def begin(app: App) -> None:
        async with app.client() as client:
            await app.annotator(client).start()

    run(begin(App(project, store)))
    assert main(["collect", "plan", str(project.folder), "--page_size=8"]) == ExitCode.FAILED
    assert "planned with other options, and annotators have begun" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--task=imagenet", "--images={}/nowhere"], "no such folder or archive"),
        (["--task=imagenet", "--images={}/pictures/cat"], "holds no class folders"),
        (["--task=imagenet", "--images={}/pictures", "--instances=x"], "--instances"),
        (["--task=imagenet", "--images={}/pictures", "--classes={}/classes.txt"], "none of its folders"),
        (["--task=coco", "--images={}/pictures"], "in several places"),
        (["--task=coco", "--images={}/pictures/cat", "--instances={}/x.json"], "no such file"),
        (["--task=coco", "--images={}/pictures/cat", "--db=mysql://x"], "expected `sqlite` or postgresql://"),
        (["--task=coco", "--images={}/pictures/cat", "--db=postgresql://u@127.0.0.1:9/x"], "cannot be reached"),
    ],
)
def test_what_cannot_be_a_project_leaves_nothing(
    pictures: Path, tmp_path: Path, capsys: Capture, arguments: list[str], part: str
) -> None:
    (tmp_path / "classes.txt").write_text("horse\tthe horse\n")
    assert init(tmp_path / "p", *(text.format(tmp_path) for text in arguments)) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert part in message and message.startswith("error: ") and len(message.splitlines()) == 1
    assert not (tmp_path / "p").exists() and pictures.is_dir()


def test_a_plain_installation_is_told_the_extra_that_it_lacks(
    pictures: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("data_prep.collect.setup_project", "data_prep.collect.web.tokens"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "argon2", None)
    assert init(tmp_path / "p", "--task=imagenet", f"--images={pictures}") == ExitCode.FAILED
    message = capsys.readouterr().err
    assert message.startswith("error: collect init needs the package argon2: pip install '.[collect]' (in a clone)")
    assert len(message.splitlines()) == 1 and not (tmp_path / "p").exists()


def test_what_is_said_to_come_with_the_extra_comes_with_it() -> None:
    """Of packages that are imported by another name than they are installed by, the name that is installed."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg")
    extra = setup["options.extras_require"]["collect"].split()
    brought = {re.split(r"[\[<>=]", requirement)[0] for requirement in extra}
    assert {{"argon2": "argon2-cffi"}.get(name, name) for name in commands._OF_EXTRA} <= brought


def test_an_empty_class_and_names_that_share_an_xml_are_told(pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    (pictures / "empty").mkdir()
    (pictures / "cat" / "cat_3.png").write_bytes((pictures / "cat" / "cat_3.jpg").read_bytes())
    assert init(tmp_path / "p", "--task=imagenet", f"--images={pictures}") == ExitCode.DONE
    assert main(["collect", "plan", str(tmp_path / "p"), "--page_size=6", "--controls=1+1"]) == ExitCode.DONE
    printed = capsys.readouterr().out
    assert "1 classes without a picture, so without a page: empty" in printed
    assert "2 pictures left out, since another of the same class differs by its suffix alone" in printed


def init_coco(tmp_path: Path, pictures: Path, entries: list[tuple[int, str]]) -> Path:
    """A project of the cats, with an instances file that has these ids and names."""
    instances = tmp_path / "instances.json"
    images = [{"id": number, "file_name": name, "width": 40, "height": 30} for number, name in entries]
    objects = [{"id": n, "image_id": n, "category_id": 17, "bbox": [0, 0, 9, 9], "iscrowd": 0} for n, _ in entries]
    facts = {"images": images, "annotations": objects, "categories": [{"id": 17, "name": "cat"}]}
    instances.write_text(json.dumps(facts))
    folder = tmp_path / "p"
    assert init(folder, "--task=coco", f"--images={pictures / 'cat'}", f"--instances={instances}") == ExitCode.DONE
    return folder


@pytest.mark.parametrize(
    ("entries", "part"),
    [
        ([(1, "cat_0.jpg"), (2, "cat_1.jpg"), (1, "cat_2.jpg")], "id 1 is that of 'cat_0.jpg' and of 'cat_2.jpg'"),
        ([(1, "cat_0.jpg"), (2, "cat_1.jpg"), (3, "cat_0.jpg")], "'cat_0.jpg' stands twice, with the ids 1 and 3"),
    ],
)
def test_an_instances_file_with_an_id_or_a_name_twice_is_refused(
    pictures: Path, tmp_path: Path, capsys: Capture, entries: list[tuple[int, str]], part: str
) -> None:
    """Clicks of two pictures would come back as those of one."""
    folder = init_coco(tmp_path, pictures, entries)
    assert main(["collect", "plan", str(folder)]) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path / 'instances.json'}: ") and part in message
    assert len(message.splitlines()) == 1


def test_pictures_are_joined_to_an_instances_file_as_coco_ab_joins_them(
    pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    """By the whole name, else by the last part of a name that no other ends with."""
    names = ["images/cat_0.jpg", "cat_1.jpg", "b\\cat_2.jpg", "a/cat_3.jpg", "b/cat_3.jpg", "a/cat_4.jpg", "cat_4.jpg"]
    folder = init_coco(tmp_path, pictures, list(enumerate(names, 1)))
    assert main(["collect", "plan", str(folder)]) == ExitCode.DONE
    with open_project(folder).open_store() as store:
        bodies = store.read(lambda tx: tx.rows("SELECT body FROM task WHERE practice = 0"))
    planned = {shown.source.path: shown.source.image_id for (body,) in bodies for shown in read_task(body).pictures}
    assert planned == {"cat_0.jpg": 1, "cat_1.jpg": 2, "cat_2.jpg": 3, "cat_4.jpg": 7}
    left_out = "5 pictures left out, since the instances file does not name them: cat_3.jpg, cat_5.jpg, "
    assert left_out in capsys.readouterr().out
    ready = ["coco_ab", f"--images={pictures / 'cat'}", f"--instances={tmp_path / 'instances.json'}", "--workers=1"]
    assert main([*ready, f"--out={tmp_path / 'prepared'}", "--min_match=0"]) == ExitCode.DONE
    manifest = json.loads((tmp_path / "prepared" / "train.manifest.json").read_text())
    assert manifest["counts"]["images"] == len(planned)


def test_an_instances_file_of_other_pictures_is_refused(pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = init_coco(tmp_path, pictures, [(9, "000000000009.jpg"), (25, "000000000025.jpg")])
    assert main(["collect", "plan", str(folder)]) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert str(tmp_path / "instances.json") in message and str(pictures / "cat") in message
    assert "'000000000009.jpg'" in message and "'cat_0.jpg'" in message and len(message.splitlines()) == 1


def test_options_of_the_other_page_are_refused(pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    assert init(tmp_path / "p", "--task=coco", f"--images={pictures / 'cat'}") == ExitCode.DONE
    assert main(["collect", "plan", str(tmp_path / "p"), "--page_size=20"]) == ExitCode.FAILED
    assert "--pages_per_hit" in capsys.readouterr().err
    with pytest.raises(SystemExit) as e:
        main(["collect", "plan", str(tmp_path / "p"), "--overlpa=2"])
    assert e.value.code == ExitCode.USAGE and "did you mean --overlap" in capsys.readouterr().err


def test_a_server_without_a_plan_or_with_moved_pictures_does_not_start(
    pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "p"
    init(folder, "--task=imagenet", f"--images={pictures}")
    assert main(["collect", "serve", str(folder), "--port=0"]) == ExitCode.FAILED
    assert "collect plan" in capsys.readouterr().err
    main(["collect", "plan", str(folder), "--page_size=6", "--controls=1+1"])
    pictures.rename(tmp_path / "elsewhere")
    assert main(["collect", "serve", str(folder), "--port=0"]) == ExitCode.FAILED
    assert "no such folder or archive" in capsys.readouterr().err


def test_imagenet_classes_get_names_and_glosses_of_wordnet(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", {"n01443537": 2})
    line = '01443537 05 n 02 goldfish 0 Carassius_auratus 0 001 @ 01441117 n 0000 | small golden fish; "in a bowl"  \n'
    wordnet = tmp_path / "data.noun"
    with wordnet.open("wb") as file:
        file.seek(1443537)
        file.write(line.encode())
    from data_prep.collect.classes import _from_wordnet

    with wordnet.open("rb") as file:
        found = _from_wordnet("n01443537", file)
    assert (found.name, found.synonyms, found.gloss) == ("goldfish", ("Carassius auratus",), "small golden fish")


def test_nothing_here_loads_jax_or_tensorflow() -> None:
    modules = (
        "data_prep.collect.commands, data_prep.collect.web.server, data_prep.collect.plan, data_prep.collect.backup,"
        "data_prep.collect.setup_project, data_prep.collect.status, data_prep.collect.simulate.faults"
    )
    code = f"import sys, {modules}; print([m for m in ('jax', 'flax', 'tensorflow', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_before_the_plan_status_and_invite_say_what_is_next(pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "p"
    init(folder, "--task=imagenet", f"--images={pictures}")
    capsys.readouterr()
    assert main(["collect", "status", str(folder)]) == ExitCode.DONE
    printed = capsys.readouterr().out
    assert "no pages yet; next: collect plan" in printed and "done" not in printed
    assert main(["collect", "invite", str(folder), "--number=2"]) == ExitCode.DONE
    links, said = capsys.readouterr()
    assert len(links.splitlines()) == 2
    assert "no pages yet" in said and f"next: python -m data_prep collect plan {folder}" in said
    main(["collect", "plan", str(folder), "--page_size=6", "--controls=1+1"])
    main(["collect", "invite", str(folder)])
    said = capsys.readouterr().err
    assert "no pages yet" not in said and f"next: python -m data_prep collect serve {folder}" in said
