"""Every command that a document shows can be given, and is run by a test or said not to be run.

A command fails here where its program, an option or a value is not there any more. A new one needs a row in `RUN_BY`,
or the words "not run by tests" in the comment behind it, in its paragraph, or in the first paragraph of its document.
"""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from data_prep.__main__ import _check_suite_options
from data_prep.arguments import read_arguments
from luab_jax import __main__ as console
from luab_jax import cli
from luab_jax.config.flags import load_config
from luab_jax.errors import UserError
from luab_jax.evaluation.runner import choose_suites
from tests.documents import DOCUMENTS, ROOT, Shown, commands, commands_of

COMMANDS = [shown for document in DOCUMENTS for shown in commands(document)]
MODULES = {
    "luab_jax.main": "luab_jax.main",
    "luab_jax.evaluate": "luab_jax.evaluate",
    "luab_jax.export": "luab_jax.export",
    "luab_jax.report": "luab_jax.report.__main__",
    "luab_jax.preview": "luab_jax.preview.__main__",
    "luab_jax.preflight": "luab_jax.preflight.__main__",
}
"""Commands on absl's flags."""

_COLLECT = "tests/data_prep/collect/test_"
RUN_BY = {
    "luab_jax.main": ("tests/e2e/test_demo.py", "tests/test_cli.py"),
    "luab_jax.evaluate": (
        *("tests/e2e/test_demo.py", "tests/test_cli.py"),
        *("tests/foreign/test_onnx_file.py", "tests/foreign/test_python_function.py", "tools/bucket_road.py"),
        "tests/evaluation/test_more_suites.py",
    ),
    "luab_jax.export": ("tests/test_export.py",),
    "luab_jax.preflight": ("tests/preflight/test_command.py",),
    "luab_jax.preview": ("tests/test_api.py", "tests/test_cli.py"),
    "luab_jax.report": ("tests/e2e/test_demo.py", "tests/report/test_command.py"),
    "data_prep backgrounds": ("tests/data_prep/own_suites/test_backgrounds.py",),
    "data_prep corruptions": ("tests/data_prep/own_suites/test_changed.py",),
    "data_prep occlusions": ("tests/data_prep/own_suites/test_changed.py",),
    "data_prep grids": ("tests/data_prep/own_suites/test_changed.py",),
    "data_prep coco_ab": ("tests/data_prep/test_coco_ab.py", "tests/data_prep/test_coco_files.py"),
    "data_prep demo": ("tests/e2e/test_demo.py",),
    "data_prep folder": ("tests/data_prep/test_own_data.py", "tests/data_prep/test_annotated.py"),
    "data_prep imagenet_ab": ("tests/data_prep/test_prepare.py", "tests/data_prep/test_beam.py"),
    "data_prep inspect": ("tests/e2e/test_demo.py", "tests/data_prep/test_inspect.py"),
    "data_prep suite": (
        *("tests/data_prep/test_suites.py", "tests/data_prep/test_imagenet_c.py"),
        *("tests/evaluation/test_more_suites.py", "tests/evaluation/test_perturbations.py"),
        *("tests/evaluation/test_hard_sets.py", "tests/evaluation/test_human_consistency.py"),
    ),
    "data_prep verify": ("tests/e2e/test_demo.py", "tests/data_prep/test_verify.py", "tests/data_prep/test_beam.py"),
    "data_prep collect init": (f"{_COLLECT}commands.py",),
    "data_prep collect plan": (f"{_COLLECT}commands.py",),
    "data_prep collect invite": (f"{_COLLECT}commands.py",),
    "data_prep collect serve": (f"{_COLLECT}commands.py", f"{_COLLECT}proxies.py"),
    "data_prep collect status": (f"{_COLLECT}commands.py",),
    "data_prep collect export": (f"{_COLLECT}export.py", "tests/e2e/test_collect.py"),
    "data_prep collect backup": (f"{_COLLECT}backup.py",),
    "data_prep collect restore": (f"{_COLLECT}backup.py", f"{_COLLECT}export.py"),
    "data_prep collect simulate": (f"{_COLLECT}export.py",),
    "bash launch/tpu_queued.sh": ("tests/launch/test_tpu_queued.py",),
    "python launch/elastic.py": ("tests/launch/test_elastic.py",),
    "bash docs/collect_loop.sh": ("tests/e2e/test_collect.py",),
    "make lint": (".ci/run",),
    "make test": (".ci/run",),
    "make wheel": (".ci/run",),
    "pip install": ("tools/wheel.sh",),
    "pytest": (".ci/run", "Makefile"),
    "tools.buckets": ("tests/e2e/test_buckets.py",),
    "tools.damage": ("tests/tools/test_damage.py",),
    "tools.faults": ("tests/tools/test_faults.py",),
    "tools.fuzz": ("tests/tools/test_fuzz.py",),
}
"""Command to the files that run it; each of its documented options is given in one of them."""


def key(shown: Shown) -> str:
    """`luab_jax.main`, `data_prep collect init`, `make demo`, `pip install`, `bash benchmarks/gpu.sh`."""
    words = shown.words
    if words[0] == "luab-jax":
        words = ["python", "-m", console.COMMANDS[words[1]][0], *words[2:]] if words[1] in console.COMMANDS else words
    if words[:2] == ["python", "-m"]:
        depth = {"data_prep": 2}.get(words[2], 1)
        depth = 3 if words[2:4] == ["data_prep", "collect"] else depth
        return " ".join(word for word in words[2 : 2 + depth] if not word.startswith("-"))
    return " ".join(words[:2])


def is_a_list(shown: Shown) -> bool:
    """`collect init|plan|...` names commands, of which each is shown elsewhere."""
    return any("|" in word and not word.startswith("-") for word in shown.words[:5])


def test_there_is_something_to_check() -> None:
    found = {key(shown) for shown in COMMANDS}
    assert {
        "luab_jax.main",
        "luab_jax.evaluate",
        "data_prep imagenet_ab",
        "data_prep collect init",
        "make demo",
    } <= found
    assert len(COMMANDS) > 80
    (multi,) = [shown for shown in COMMANDS if "--temp_location" in shown.text]
    assert "--beam_options" in multi.options and "--sdk_container_image=IMAGE" in multi.words[-1]


@pytest.mark.parametrize("shown", COMMANDS, ids=lambda shown: f"{shown.place} {key(shown)}")
def test_a_documented_command_can_be_given(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shown.words
    if words[0] == "luab-jax":
        for name in words[1].split("|"):
            assert name in console.COMMANDS
        words = ["python", "-m", console.COMMANDS[words[1].split("|")[0]][0], *words[2:]]
    match words:
        case ["python" | "python3", "-m", "data_prep", *arguments]:
            check_data_prep(arguments)
        case ["python" | "python3", "-m", module, *arguments] if module in MODULES:
            check_command(module, arguments, and_so_on=" ..." in shown.text)
        case ["python" | "python3", "-m", "pytest", *paths]:
            assert all((ROOT / path).exists() for path in paths)
        case ["python" | "python3", "-m", module, *arguments]:
            check_tool(module, arguments)
        case ["make", target, *_]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        case ["pip", "install", *arguments]:
            check_pip(arguments)
        case ["bash" | "python", script, *_]:
            assert (ROOT / script).is_file()
        case _:
            assert shown.says_not_run, (
                f"{shown.place}: {words[0]} cannot be checked; say in the document that it is not run"
            )


@pytest.mark.parametrize(
    "text",
    [
        "python -m luab_jax.evaluate --checkpont=RUN --data=D --out=o.json",
        "python -m luab_jax.evaluate --checkpoint=RUN --data=D --out=o.json --suites=imagenet_z",
        "python -m luab_jax.main --config=resnet50 --workdir=W --config.byproduct.target=clicks",
        "python -m data_prep folder --sources=pictures --out=prepared",
        "python -m data_prep suite imagenet_a --source=a.tar --real=real.json --out=D",
        "python -m data_prep collect srve study",
        "python -m tools.fuzz --inptus=10",
        "python -m tools.fuz",
        "luab-jax reprot RUN",
        "make dmeo",
        "pip install 'luab_jax[colect]'",
        "bash docs/loop.sh",
        "docker run image",
    ],
)
def test_a_command_that_is_not_there_any_more_is_found(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((UserError, AssertionError, SystemExit)):
        test_a_documented_command_can_be_given(Shown("", text, says_not_run=False), monkeypatch)


def test_comments_brackets_and_broken_lines_are_read_as_a_shell_and_a_reader_do() -> None:
    lines = [
        "    $ make test ARGS=x   # not run here",
        "",
        "    pip install a \\",
        "      b[c] [--pre]",
        "",
        "See `make lint`.",
    ]
    found = list(commands_of(lines, "page.md"))
    assert [(shown.text, shown.says_not_run) for shown in found] == [
        ("make test ARGS=x", True),
        ("pip install a b[c] [--pre]", False),
        ("make lint", False),
    ]
    assert found[1].words == ["pip", "install", "a", "b[c]", "--pre"]


def check_command(module: str, arguments: list[str], *, and_so_on: bool) -> None:
    """Flags are there and their values are allowed; configs exist and make sense.

    and_so_on: Dots stand for what is not shown, and so for flags that must be given.
    """
    if not arguments:
        return
    command = importlib.import_module(MODULES[module])._COMMAND
    flags = command.flags
    numbers = {name for name in flags if flags[name].flag_type() in ("int", "float")}
    given = [re.sub(r"^--(\w+)=[A-Z]+$", lambda m: f"--{m[1]}=1" if m[1] in numbers else m[0], a) for a in arguments]
    if and_so_on:
        shown = {word.partition("=")[0] for word in given}
        required = {f"--{name}" for name in flags if cli._must_be_given(flags[name])}
        given += [f"{name}=x" for name in sorted(required - shown)]
    parsed: cli.Arguments = command._parse(given)
    configs = flags["config"].value if "config" in flags else None
    for path in [configs] if isinstance(configs, str) else configs or []:
        load_config(path, parsed.overrides).validate()
    if "suites" in flags:
        choose_suites(flags["suites"].value)
    assert parsed.names or not command.takes_names


def check_data_prep(arguments: list[str]) -> None:
    if any("|" in argument for argument in arguments[:2] if not argument.startswith("-")):
        (position,) = [i for i, argument in enumerate(arguments[:2]) if "|" in argument]
        for name in arguments[position].split("|"):
            with pytest.raises(SystemExit) as ended:
                read_arguments([*arguments[:position], name, "--help"])
            assert ended.value.code == 0
        return
    replaced = {"NAME": "imagenet_a", "--seed=N": "--seed=1"}
    words = [replaced.get(word, re.sub(r"=N$", "=1", word)) for word in arguments]
    for number in range(max(word.count("|") for word in words) + 1):  # each of `--by=masks|boxes` is a value
        parsed = read_arguments([_alternative(word, number) for word in words])
        if parsed.command == "suite" and "NAME" not in arguments:  # which stands for all, with the options of each
            _check_suite_options(parsed)


def _alternative(word: str, number: int) -> str:
    """`--by=boxes`, the second of `--by=masks|boxes`; the last where there are fewer."""
    name, equals, value = word.partition("=")
    return name + equals + value.split("|")[min(number, value.count("|"))]


def check_tool(module: str, arguments: list[str]) -> None:
    """A program for maintainers: it is there, and its source knows every option."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    package = spec.submodule_search_locations
    files = [Path(spec.origin)] if package is None else sorted(Path(package[0]).glob("*.py"))
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    for word in arguments:
        if word.startswith("--"):
            name = word.partition("=")[0]
            is_config = name.startswith("--config.") and "takes_config=True" in source
            assert is_config or f'"{name}"' in source or f'"{name.removeprefix("--")}"' in source, word
        elif "|" in word:
            assert all(f'"{name}"' in source for name in word.split("|")), word


def check_pip(arguments: list[str]) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = {
        name for text in re.findall(r"^(?:luab_jax|\.)\[(.*)\]", "\n".join(arguments), re.M) for name in text.split(",")
    }
    assert extras <= set(setup["options.extras_require"])
    assert all((ROOT / word).is_file() for word in arguments if word.endswith(".lock"))


@pytest.mark.parametrize("name", sorted({key(shown) for shown in COMMANDS if not is_a_list(shown)}))
def test_a_documented_command_is_run_by_a_test_or_said_not_to_be(name: str) -> None:
    shown = [each for each in COMMANDS if key(each) == name]
    if name not in RUN_BY:
        places = ", ".join(each.place for each in shown)
        said = any(each.says_not_run for each in shown)
        assert said, f"{places}: {name} needs a row in RUN_BY, or the document the words 'not run by tests'"
        return
    texts = "\n".join((ROOT / path).read_text(encoding="utf-8") for path in RUN_BY[name])
    program = re.split(r"[ ./]", name.removesuffix(".sh").removesuffix(".py"))[-1]
    assert program in texts, f"{', '.join(RUN_BY[name])}: nothing of {program}"
    for each in shown:
        missing = [option for option in each.options if not re.search(rf"\b{option[2:]}\b", texts)]
        assert not missing or each.says_not_run, f"{each.place}: {RUN_BY[name]} give no {' '.join(sorted(missing))}"


def test_no_row_is_left_of_a_command_that_no_document_shows() -> None:
    assert RUN_BY.keys() <= {key(shown) for shown in COMMANDS}
    assert all((ROOT / path).is_file() for paths in RUN_BY.values() for path in paths)
